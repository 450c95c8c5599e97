//! The way to an export's output. A thread of its own writes: a reader that does not read holds up neither a signal nor PostgreSQL's end.

use std::{
    io::{self, Write},
    mem, thread,
};

use tokio::sync::{mpsc, oneshot};

/// The bytes that are handed over at once.
const CHUNK: usize = 64 << 10;

/// A way to `Write` that waits without blocking the thread. It holds up to three chunks, each of [`CHUNK`] bytes or what one
/// [`Out::take`] brought: one that is gathered, one that waits, one that is being written.
pub(super) struct Out {
    chunk: Vec<u8>,
    chunks: mpsc::Sender<Vec<u8>>,
    end: oneshot::Receiver<io::Result<()>>,
}

impl Out {
    /// Writes to this one.
    ///
    /// # Errors
    /// If the system has no thread for it.
    pub(super) fn new(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (chunks, to_write) = mpsc::channel(1);
        let (told, end) = oneshot::channel();
        thread::Builder::new()
            .name("export".to_owned())
            .spawn(move || {
                // Nobody waits for it where a signal has ended the export.
                let _ = told.send(write(out, to_write));
            })?;
        Ok(Self {
            chunk: Vec::new(),
            chunks,
            end,
        })
    }

    /// Takes bytes; waits until there is room for them.
    ///
    /// # Errors
    /// Those of the writer, also of bytes before.
    pub(super) async fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() < CHUNK {
            return Ok(());
        }
        self.hand_over().await
    }

    /// Waits until all is written.
    ///
    /// # Errors
    /// Those of the writer.
    pub(super) async fn finish(mut self) -> io::Result<()> {
        self.hand_over().await?;
        drop(self.chunks);
        ended(&mut self.end).await
    }

    async fn hand_over(&mut self) -> io::Result<()> {
        if self.chunks.send(mem::take(&mut self.chunk)).await.is_ok() {
            return Ok(());
        }
        // It takes no more: it has failed.
        ended(&mut self.end).await
    }
}

async fn ended(end: &mut oneshot::Receiver<io::Result<()>>) -> io::Result<()> {
    end.await
        .unwrap_or_else(|_| Err(io::Error::other("the thread that writes has panicked")))
}

fn write(mut out: impl Write, mut chunks: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    while let Some(chunk) = chunks.blocking_recv() {
        out.write_all(&chunk)?;
    }
    out.flush()
}
