//! Takes in a body as it comes: unpacked, counted, bounded, and kept as far as anybody asks for it.

use std::io::{self, Write};

use brotli::{BrotliDecompressStream, BrotliResult, BrotliState, enc::StandardAlloc};
use flate2::{Decompress, FlushDecompress, Status};
use sitewatch_config::SiteOptions;

use super::super::attempt::Failure;
use crate::model::ErrorKind;

/// What the request says that it can unpack.
pub(super) const ACCEPTED: &str = "gzip, br, zstd";

/// The most that zstd may look back, as a power of two: 8 MiB, what RFC 9659 asks of browsers. It comes on top of what is kept, as
/// brotli's window does, of at most 16 MiB (RFC 7932).
const LARGEST_WINDOW: u32 = 23;

/// Takes in a body.
pub(super) struct BodyReader {
    unpack: Unpack,
    /// Whether anything came: an encoding may be named for no body at all, as in the answer to HEAD.
    has_begun: bool,
}

/// Where the unpacked bytes go.
struct Kept {
    bytes: Vec<u8>,
    /// How much is kept.
    keep: usize,
    /// Bytes that came, kept or not.
    count: u64,
    limit: usize,
}

enum Unpack {
    Plain(Kept),
    Inflate(Box<Inflate>),
    Brotli(Box<Brotli>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Kept>>),
}

impl BodyReader {
    /// A reader for a body of this encoding (the header `content-encoding`) and, if known, length.
    ///
    /// # Errors
    /// `protocol_error` for an encoding that nobody asked for.
    pub(super) fn new(
        options: &SiteOptions,
        encoding: Option<&[u8]>,
        length: Option<u64>,
    ) -> Result<Self, Failure> {
        let limit = options.expect.max_body_bytes;
        let keep = if options.expect.look_into_body() {
            limit
        } else {
            options.capture_bytes.min(limit)
        };
        let encoding = String::from_utf8_lossy(encoding.unwrap_or_default());
        let encoding = encoding.trim().to_ascii_lowercase();
        let foretold = length.map_or(0, |length| usize::try_from(length).unwrap_or(usize::MAX));
        let kept = Kept {
            bytes: Vec::with_capacity(if encoding.is_empty() {
                foretold.min(keep)
            } else {
                0
            }),
            keep,
            count: 0,
            limit,
        };
        let broken = |error: io::Error| {
            Failure::new(ErrorKind::InternalError, format!("can't unpack: {error}"))
        };
        let unpack = match encoding.as_str() {
            "" | "identity" => Unpack::Plain(kept),
            "gzip" | "x-gzip" => Unpack::Inflate(Inflate::new(kept, Decompress::new_gzip(15))),
            "deflate" => Unpack::Inflate(Inflate::new(kept, Decompress::new(true))),
            "br" => Unpack::Brotli(Brotli::new(kept)),
            "zstd" => {
                let mut decoder = zstd::stream::write::Decoder::new(kept).map_err(broken)?;
                decoder.window_log_max(LARGEST_WINDOW).map_err(broken)?;
                Unpack::Zstd(Box::new(decoder))
            }
            other => {
                return Err(Failure::new(
                    ErrorKind::ProtocolError,
                    format!("the body is packed in a way that was not asked for: {other:?}"),
                ));
            }
        };
        Ok(Self {
            unpack,
            has_begun: false,
        })
    }

    /// Takes in the next piece.
    ///
    /// # Errors
    /// `body_too_large`, or `protocol_error` if it can't be unpacked.
    pub(super) fn take(&mut self, piece: &[u8]) -> Result<(), Failure> {
        self.has_begun |= !piece.is_empty();
        let written = match &mut self.unpack {
            Unpack::Plain(kept) => kept.write_all(piece),
            Unpack::Inflate(inflate) => inflate.take(piece),
            Unpack::Brotli(decoder) => decoder.take(piece),
            Unpack::Zstd(decoder) => decoder.write_all(piece).and_then(|()| decoder.flush()),
        };
        self.judge(written)
    }

    /// The body has ended.
    ///
    /// # Errors
    /// As [`BodyReader::take`].
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        let ended = match &mut self.unpack {
            _ if !self.has_begun => Ok(()),
            Unpack::Plain(_) => Ok(()),
            Unpack::Inflate(inflate) => whole(inflate.ended),
            Unpack::Brotli(decoder) => whole(decoder.ended),
            Unpack::Zstd(decoder) => decoder.do_finish(),
        };
        self.judge(ended)
    }

    fn judge(&self, result: io::Result<()>) -> Result<(), Failure> {
        let kept = self.kept();
        if kept.count > kept.limit as u64 {
            return Err(Failure::new(
                ErrorKind::BodyTooLarge,
                format!("the body is larger than {} bytes", kept.limit),
            ));
        }
        result.map_err(|error| {
            Failure::new(
                ErrorKind::ProtocolError,
                format!("the body can't be unpacked: {error}"),
            )
        })
    }

    fn kept(&self) -> &Kept {
        match &self.unpack {
            Unpack::Plain(kept) => kept,
            Unpack::Inflate(inflate) => &inflate.kept,
            Unpack::Brotli(decoder) => &decoder.kept,
            Unpack::Zstd(decoder) => decoder.get_ref(),
        }
    }

    /// Bytes that came, unpacked.
    pub(super) fn count(&self) -> u64 {
        self.kept().count
    }

    /// What was kept.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        std::mem::take(match &mut self.unpack {
            Unpack::Plain(kept) => &mut kept.bytes,
            Unpack::Inflate(inflate) => &mut inflate.kept.bytes,
            Unpack::Brotli(decoder) => &mut decoder.kept.bytes,
            Unpack::Zstd(decoder) => &mut decoder.get_mut().bytes,
        })
    }
}

/// Unpacks gzip and zlib with no more memory than they need: flate2's own writers hold 32 kB beside.
struct Inflate {
    kept: Kept,
    state: Decompress,
    ended: bool,
}

impl Inflate {
    fn new(kept: Kept, state: Decompress) -> Box<Self> {
        Box::new(Self {
            kept,
            state,
            ended: false,
        })
    }

    /// Unpacks a piece. What follows the end is passed over, as browsers do.
    fn take(&mut self, mut piece: &[u8]) -> io::Result<()> {
        let mut room = [0; 4096];
        while !self.ended {
            let (read, written) = (self.state.total_in(), self.state.total_out());
            let status = self
                .state
                .decompress(piece, &mut room, FlushDecompress::None)
                .map_err(io::Error::other)?;
            let read = usize::try_from(self.state.total_in() - read).unwrap_or(piece.len());
            let written = usize::try_from(self.state.total_out() - written).unwrap_or(0);
            piece = &piece[read..];
            self.kept.write_all(&room[..written])?;
            self.ended = status == Status::StreamEnd;
            if piece.is_empty() && written < room.len() {
                break;
            }
        }
        Ok(())
    }
}

/// Unpacks brotli, a few kilobytes at a time: the crate's own writer hands on nothing before its window is full, and takes windows of up
/// to 1 GiB, so that 800 bytes cost a gigabyte before anybody asked for a limit.
struct Brotli {
    kept: Kept,
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    ended: bool,
}

impl Brotli {
    fn new(kept: Kept) -> Box<Self> {
        let alloc = StandardAlloc::default;
        Box::new(Self {
            kept,
            state: BrotliState::new_strict(alloc(), alloc(), alloc()),
            ended: false,
        })
    }

    /// Unpacks a piece. What follows the end is passed over, as browsers do.
    fn take(&mut self, piece: &[u8]) -> io::Result<()> {
        let mut room = [0; 4096];
        let (mut left, mut read, mut total) = (piece.len(), 0, 0);
        while !self.ended {
            let (mut free, mut written) = (room.len(), 0);
            let result = BrotliDecompressStream(
                &mut left,
                &mut read,
                piece,
                &mut free,
                &mut written,
                &mut room,
                &mut total,
                &mut self.state,
            );
            self.kept.write_all(&room[..written])?;
            match result {
                BrotliResult::NeedsMoreOutput => {}
                BrotliResult::NeedsMoreInput => break,
                BrotliResult::ResultSuccess => self.ended = true,
                BrotliResult::ResultFailure => return Err(io::Error::other("it is not brotli")),
            }
        }
        Ok(())
    }
}

/// Whether a packed body had its end.
fn whole(ended: bool) -> io::Result<()> {
    if ended {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "it ends too soon",
    ))
}

impl Write for Kept {
    /// Fails as soon as there is more than the limit, so that no bomb is unpacked further.
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.count += piece.len() as u64;
        if self.count > self.limit as u64 {
            return Err(io::Error::other("too large"));
        }
        let room = self.keep - self.bytes.len();
        let kept = &piece[..piece.len().min(room)];
        if self.bytes.capacity() - self.bytes.len() < kept.len() {
            // Doubled, but never beyond what may be kept at all.
            let wanted = (self.bytes.capacity() * 2).max(self.bytes.len() + kept.len());
            self.bytes
                .reserve_exact(wanted.min(self.keep) - self.bytes.len());
        }
        self.bytes.extend_from_slice(kept);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
