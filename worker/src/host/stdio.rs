//! Standard output and standard error of a guest, as WASI streams that end in the run's record.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use longshore_proto::event::Stream;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use longshore_proto::trace::StreamKind;

use super::record::RunRecord;
use super::recorder::{STDERR, STDOUT};
use super::scope::RunScope;
use super::tape::Tape;

/// The most that one write may bring: the record takes it at once, without waiting.
const PERMIT: usize = 64 * 1024;

/// One of the two.
#[derive(Clone)]
pub(super) struct GuestOutput {
    record: Arc<RunRecord>,
    tape: Tape,
    stream: Stream,
}

impl GuestOutput {
    pub(super) fn stdout(scope: &RunScope) -> Self {
        Self { record: Arc::clone(&scope.record), tape: scope.tape.clone(), stream: Stream::Stdout }
    }
    pub(super) fn stderr(scope: &RunScope) -> Self {
        Self { record: Arc::clone(&scope.record), tape: scope.tape.clone(), stream: Stream::Stderr }
    }

    fn take(&self, bytes: &[u8]) {
        self.record.write(self.stream, bytes);
        let (stream, kind) = match self.stream {
            Stream::Stderr => (STDERR, StreamKind::Stderr),
            _ => (STDOUT, StreamKind::Stdout),
        };
        match &self.tape {
            Tape::Off => {}
            Tape::Recording(recorder) => recorder.stream_bytes(stream, bytes),
            Tape::Replaying(player) => player.wrote(stream, kind, bytes),
        }
    }
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestOutput {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for GuestOutput {
    async fn ready(&mut self) {}
}

impl OutputStream for GuestOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > PERMIT {
            return Err(StreamError::trap("a write larger than its permit"));
        }
        self.take(&bytes);
        Ok(())
    }
    fn flush(&mut self) -> StreamResult<()> {
        // A line is published when it ends, and the last one when the run ends: flushing half a line would cut it.
        Ok(())
    }
    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMIT)
    }
}

impl AsyncWrite for GuestOutput {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let taken = bytes.get(..PERMIT).unwrap_or(bytes);
        self.take(taken);
        Poll::Ready(Ok(taken.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
