//! Streams that the guest writes. Bodies of requests are on the tape: how fast they go depends on the network. Stdout
//! and stderr always take everything.
//!
//! The body of the guest's own answer is a channel with two places. As long as nobody reads it, what the guest finds is
//! its own doing. Once the guest has handed it over, the host takes from it whenever the guest waits, so whether it is full
//! is a matter of the host's timing: here a taped run looks only after the host has had its turn.

use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use wasmtime::component::{Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::WasiCliView as _;
use wasmtime_wasi::p2::bindings::cli::{stderr, stdout};
use wasmtime_wasi::p2::bindings::io::streams::HostOutputStream as _;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, StreamError, StreamResult};

use super::streams::{Flow, On, STREAMS};
use super::{Note, Step, Wait};
use crate::host::RunState;

const STDOUT: &str = "wasi:cli/stdout@0.2.12";
const STDERR: &str = "wasi:cli/stderr@0.2.12";

/// What a guest does with a stream.
#[derive(Clone)]
enum Op {
    CheckWrite,
    /// What `check-write` says once it says something: part of a splice.
    WriteReady,
    Write(Bytes),
    BlockingWriteAndFlush(Bytes),
    /// The same without its bound of 4,096 bytes: part of a splice.
    WriteOut(Bytes),
    Flush,
    BlockingFlush,
    WriteZeroes(u64),
    BlockingWriteZeroesAndFlush(u64),
}

impl Op {
    fn function(&self) -> &'static str {
        match self {
            Self::CheckWrite => "wasi:io/streams.output-stream.check-write",
            Self::WriteReady => "wasi:io/streams.output-stream.write-ready",
            Self::Write(_) => "wasi:io/streams.output-stream.write",
            Self::BlockingWriteAndFlush(_) | Self::WriteOut(_) => {
                "wasi:io/streams.output-stream.blocking-write-and-flush"
            }
            Self::Flush => "wasi:io/streams.output-stream.flush",
            Self::BlockingFlush => "wasi:io/streams.output-stream.blocking-flush",
            Self::WriteZeroes(_) => "wasi:io/streams.output-stream.write-zeroes",
            Self::BlockingWriteZeroesAndFlush(_) => {
                "wasi:io/streams.output-stream.blocking-write-zeroes-and-flush"
            }
        }
    }

    fn length(&self) -> Option<u64> {
        match self {
            Self::Write(bytes) | Self::BlockingWriteAndFlush(bytes) | Self::WriteOut(bytes) => {
                Some(bytes.len() as u64)
            }
            Self::WriteZeroes(length) | Self::BlockingWriteZeroesAndFlush(length) => Some(*length),
            Self::CheckWrite | Self::WriteReady | Self::Flush | Self::BlockingFlush => None,
        }
    }

    /// Whether it gives a number.
    fn counts(&self) -> bool {
        matches!(self, Self::CheckWrite | Self::WriteReady)
    }

    /// What has gone through the stream when it succeeds. Zeroes are bounded by the permit: 64 KiB.
    fn bytes(&self) -> Bytes {
        match self {
            Self::Write(bytes) | Self::BlockingWriteAndFlush(bytes) | Self::WriteOut(bytes) => bytes.clone(),
            Self::WriteZeroes(length) | Self::BlockingWriteZeroesAndFlush(length) => {
                let most = crate::host::wasi::BODY_WRITE_BYTES;
                vec![0; usize::try_from(*length).unwrap_or(most).min(most)].into()
            }
            Self::CheckWrite | Self::WriteReady | Self::Flush | Self::BlockingFlush => Bytes::new(),
        }
    }

    async fn apply(self, table: &mut ResourceTable, rep: u32) -> StreamResult<u64> {
        let stream = Resource::<DynOutputStream>::new_borrow(rep);
        match self {
            Self::CheckWrite => return table.check_write(stream),
            Self::WriteReady => {
                let permit = table.get_mut(&stream)?.write_ready().await?;
                return Ok(u64::try_from(permit).unwrap_or(u64::MAX));
            }
            Self::Write(bytes) => table.get_mut(&stream)?.write(bytes)?,
            Self::BlockingWriteAndFlush(bytes) => {
                table.blocking_write_and_flush(stream, bytes.into()).await?;
            }
            Self::WriteOut(bytes) => table.get_mut(&stream)?.blocking_write_and_flush(bytes).await?,
            Self::Flush => table.flush(stream)?,
            Self::BlockingFlush => table.blocking_flush(stream).await?,
            Self::WriteZeroes(length) => table.write_zeroes(stream, length)?,
            Self::BlockingWriteZeroesAndFlush(length) => {
                table.blocking_write_zeroes_and_flush(stream, length).await?;
            }
        }
        Ok(0)
    }
}

pub(super) fn shadow(linker: &mut Linker<RunState>) -> wasmtime::Result<()> {
    type Stream = Resource<DynOutputStream>;
    type Source = Resource<DynInputStream>;
    type OpOf<T> = fn(T) -> Op;
    let mut streams = linker.instance(STREAMS)?;
    streams.func_wrap_async("[method]output-stream.check-write", |mut store, (stream,): (Stream,)| {
        Box::new(async move {
            let run = store.data_mut();
            let permit = run.on_output(&stream, Op::CheckWrite).await;
            Ok((run.stream_result(permit)?,))
        })
    })?;
    let flushes = [
        ("[method]output-stream.flush", Op::Flush),
        ("[method]output-stream.blocking-flush", Op::BlockingFlush),
    ];
    for (name, op) in flushes {
        streams.func_wrap_async(name, move |mut store, (stream,): (Stream,)| {
            let op = op.clone();
            Box::new(async move {
                let run = store.data_mut();
                let done = run.on_output(&stream, op).await.map(|_| ());
                Ok((run.stream_result(done)?,))
            })
        })?;
    }
    let writes: [(_, OpOf<Bytes>); 2] = [
        ("[method]output-stream.write", Op::Write),
        ("[method]output-stream.blocking-write-and-flush", Op::BlockingWriteAndFlush),
    ];
    for (name, op) in writes {
        streams.func_wrap_async(name, move |mut store, (stream, bytes): (Stream, Vec<u8>)| {
            Box::new(async move {
                let run = store.data_mut();
                let done = run.on_output(&stream, op(bytes.into())).await.map(|_| ());
                Ok((run.stream_result(done)?,))
            })
        })?;
    }
    let zeroes: [(_, OpOf<u64>); 2] = [
        ("[method]output-stream.write-zeroes", Op::WriteZeroes),
        ("[method]output-stream.blocking-write-zeroes-and-flush", Op::BlockingWriteZeroesAndFlush),
    ];
    for (name, op) in zeroes {
        streams.func_wrap_async(name, move |mut store, (stream, length): (Stream, u64)| {
            Box::new(async move {
                let run = store.data_mut();
                let done = run.on_output(&stream, op(length)).await.map(|_| ());
                Ok((run.stream_result(done)?,))
            })
        })?;
    }
    for (name, blocking) in
        [("[method]output-stream.splice", false), ("[method]output-stream.blocking-splice", true)]
    {
        streams.func_wrap_async(
            name,
            move |mut store, (stream, source, length): (Stream, Source, u64)| {
                Box::new(async move {
                    let run = store.data_mut();
                    let spliced = run.splice(&stream, &source, length, blocking).await;
                    Ok((run.stream_result(spliced)?,))
                })
            },
        )?;
    }
    streams.func_wrap("[method]output-stream.subscribe", |mut store, (stream,): (Stream,)| {
        let run = store.data_mut();
        let wait = match run.taped.get(stream.rep()) {
            Some(Note::Request(stream)) => Wait::Outside(format!("write stream {stream}")),
            Some(Note::Response(is_read)) => Wait::Response(is_read.clone()),
            _ => Wait::Never,
        };
        let pollable = run.table.subscribe(stream)?;
        run.taped.put(pollable.rep(), Some(Note::Waits(wait)));
        Ok((pollable,))
    })?;
    linker.instance(STDOUT)?.func_wrap("get-stdout", |mut store, (): ()| {
        let run = store.data_mut();
        let stream = stdout::Host::get_stdout(&mut run.cli())?;
        run.taped.put(stream.rep(), None);
        Ok((stream,))
    })?;
    linker.instance(STDERR)?.func_wrap("get-stderr", |mut store, (): ()| {
        let run = store.data_mut();
        let stream = stderr::Host::get_stderr(&mut run.cli())?;
        run.taped.put(stream.rep(), None);
        Ok((stream,))
    })
}

impl RunState {
    async fn on_output(&mut self, stream: &Resource<DynOutputStream>, op: Op) -> StreamResult<u64> {
        let rep = stream.rep();
        let Some(number) = self.taped.request(rep) else { return self.on_own_output(rep, op).await };
        let on = On { stream: number, length: op.length() };
        let bytes = op.bytes();
        let result = match self.step(op.function(), &on).map_err(StreamError::Trap)? {
            Step::Live(call) => {
                let counts = op.counts();
                let result = op.apply(&mut self.table, rep).await;
                let flow = Flow::of(&result, counts);
                call.end(flow.outcome(), &flow);
                result
            }
            Step::Played(flow) => Flow::result(flow),
        };
        if result.is_ok() && !bytes.is_empty() {
            self.went_through(number, &bytes);
        }
        result
    }

    /// Stdout, stderr and the guest's answer.
    async fn on_own_output(&mut self, rep: u32, op: Op) -> StreamResult<u64> {
        let is_read = self.taped.response(rep).is_some_and(|is_read| is_read.load(Relaxed));
        let op = match op {
            Op::CheckWrite if is_read => Op::WriteReady,
            Op::Write(_) | Op::WriteZeroes(_) if is_read => {
                self.table.get_mut(&Resource::<DynOutputStream>::new_borrow(rep))?.ready().await;
                op
            }
            op => op,
        };
        op.apply(&mut self.table, rep).await
    }

    /// As wasmtime does it, in calls of their own: either end may be on the tape.
    async fn splice(
        &mut self,
        stream: &Resource<DynOutputStream>,
        source: &Resource<DynInputStream>,
        length: u64,
        blocking: bool,
    ) -> StreamResult<u64> {
        let check = if blocking { Op::WriteReady } else { Op::CheckWrite };
        let length = self.on_output(stream, check).await?.min(length);
        if length == 0 {
            return Ok(0);
        }
        let bytes = Bytes::from(self.read_some(source, length, blocking).await?);
        let length = bytes.len() as u64;
        if length > 0 {
            let write = if blocking { Op::WriteOut(bytes) } else { Op::Write(bytes) };
            self.on_output(stream, write).await?;
        }
        Ok(length)
    }
}
