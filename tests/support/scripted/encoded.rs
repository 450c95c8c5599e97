//! Compressed bodies.

use std::io::{Read as _, Write};

use flate2::{Compress, Compression, Crc, FlushCompress, Status, write::GzEncoder};

pub fn gzip(body: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body.as_ref()).unwrap();
    encoder.finish().unwrap()
}

pub fn brotli(body: impl AsRef<[u8]>) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut encoder = brotli::CompressorWriter::new(&mut packed, 4096, 5, 20);
    encoder.write_all(body.as_ref()).unwrap();
    drop(encoder);
    packed
}

/// A brotli stream of so many MiB of zeros that asks for a window of 1 GiB, which only its "large window" mode has: some hundred bytes.
pub fn brotli_bomb(mebibytes: u64) -> Vec<u8> {
    let params = brotli::enc::BrotliEncoderParams {
        quality: 3,
        lgwin: 30,
        large_window: true,
        ..Default::default()
    };
    let mut packed = Vec::new();
    let mut zeros = std::io::repeat(0).take(mebibytes << 20);
    brotli::BrotliCompress(&mut zeros, &mut packed, &params).unwrap();
    packed
}

/// The same of zstd, with a window of 128 MiB: what its command line takes by `--long`.
pub fn zstd_bomb(mebibytes: u64) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(mebibytes << 20), &mut encoder).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(body: impl AsRef<[u8]>) -> Vec<u8> {
    zstd::encode_all(body.as_ref(), 1).unwrap()
}

/// A gzip stream of so many MiB of zeros, about a thousandth of that in size: 1024 unpack to 1 GiB.
///
/// It is one gzip member, as decoders expect, and quick to make: one MiB is compressed, up to a full flush that leaves no
/// reference to what came before, and its bytes are repeated; the checksums are put together likewise.
pub fn gzip_bomb(mebibytes: u32) -> Vec<u8> {
    const MIB: usize = 1 << 20;
    let zeros = vec![0; MIB];
    let mut piece = Vec::with_capacity(64 * 1024);
    let mut deflate = Compress::new(Compression::best(), false);
    let status = deflate
        .compress_vec(&zeros, &mut piece, FlushCompress::Full)
        .unwrap();
    assert_eq!(
        (status, deflate.total_in()),
        (Status::Ok, MIB as u64),
        "the piece is whole"
    );
    let mut piece_sum = Crc::new();
    piece_sum.update(&zeros);

    // RFC 1952: deflate, no flags, no time, unknown system.
    let mut bomb = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut sum = Crc::new();
    for _ in 0..mebibytes {
        bomb.extend_from_slice(&piece);
        sum.combine(&piece_sum);
    }
    // RFC 1951: an empty last block.
    bomb.extend_from_slice(&[3, 0]);
    bomb.extend_from_slice(&sum.sum().to_le_bytes());
    bomb.extend_from_slice(&mebibytes.wrapping_shl(20).to_le_bytes());
    bomb
}
