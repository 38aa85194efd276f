//! Streams that the guest reads, and the errors of all streams. Only bodies of answers from outside are on the tape.

use longshore_proto::trace::StreamKind;
use serde::{Deserialize, Serialize};
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::cli::WasiCliView as _;
use wasmtime_wasi::p2::bindings::cli::stdin;
use wasmtime_wasi::p2::bindings::io::error::HostError as _;
use wasmtime_wasi::p2::bindings::io::streams::{self, Host as _, HostInputStream as _};
use wasmtime_wasi::p2::{DynInputStream, IoError, StreamError, StreamResult};
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;

use super::codes::Code;
use super::{Note, Step, Wait};
use crate::host::RunState;
use crate::host::tape::Tape;

pub(super) const STREAMS: &str = "wasi:io/streams@0.2.12";
const ERROR: &str = "wasi:io/error@0.2.12";
const STDIN: &str = "wasi:cli/stdin@0.2.12";

/// What a call on a stream speaks of.
#[derive(Serialize)]
pub(super) struct On {
    pub(super) stream: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) length: Option<u64>,
}

/// What a call on a stream gave; bytes are in the trace's entry for the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Flow {
    /// Done; with a number of bytes: read, or that may be written.
    Ok(Option<u64>),
    /// A `stream-error`.
    Err(Broken),
    /// It ended the run.
    Trap(String),
}

/// A `stream-error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Broken {
    /// `closed`, or what somebody wishes that had happened, in words.
    Word(String),
    /// `last-operation-failed`.
    Failed {
        /// In words.
        error: String,
        /// What `http-error-code` makes of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<Code>,
    },
}

const CLOSED: &str = "closed";

impl Flow {
    pub(super) fn of(result: &StreamResult<u64>, counts: bool) -> Self {
        match result {
            Ok(bytes) => Self::Ok(counts.then_some(*bytes)),
            Err(StreamError::Closed) => Self::Err(Broken::Word(CLOSED.to_owned())),
            Err(StreamError::LastOperationFailed(error)) => Self::Err(Broken::Failed {
                error: error.to_string(),
                code: error.downcast_ref::<ErrorCode>().map(Code::from),
            }),
            Err(StreamError::Trap(error)) => Self::Trap(error.root_cause().to_string()),
        }
    }

    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Ok(_) => "ok",
            Self::Err(Broken::Word(_)) => CLOSED,
            Self::Err(Broken::Failed { .. }) => "last-operation-failed",
            Self::Trap(_) => "trap",
        }
    }

    pub(super) fn result(self) -> StreamResult<u64> {
        let (error, code) = match self {
            Self::Ok(bytes) => return Ok(bytes.unwrap_or_default()),
            Self::Err(Broken::Word(word)) if word.eq_ignore_ascii_case(CLOSED) => {
                return Err(StreamError::Closed);
            }
            Self::Trap(words) => return Err(StreamError::Trap(wasmtime::Error::msg(words))),
            Self::Err(Broken::Word(words)) => (words, None),
            Self::Err(Broken::Failed { error, code }) => (error, code.and_then(|code| code.error())),
        };
        let error = code.map_or_else(|| wasmtime::Error::msg(error), wasmtime::Error::new);
        Err(StreamError::LastOperationFailed(error))
    }
}

/// How a guest reads.
#[derive(Clone, Copy)]
struct Reading {
    blocking: bool,
    skip: bool,
}

impl Reading {
    fn function(self) -> &'static str {
        match (self.blocking, self.skip) {
            (false, false) => "wasi:io/streams.input-stream.read",
            (true, false) => "wasi:io/streams.input-stream.blocking-read",
            (false, true) => "wasi:io/streams.input-stream.skip",
            (true, true) => "wasi:io/streams.input-stream.blocking-skip",
        }
    }
}

pub(super) fn shadow(linker: &mut Linker<RunState>) -> wasmtime::Result<()> {
    let mut streams = linker.instance(STREAMS)?;
    for (name, blocking) in
        [("[method]input-stream.read", false), ("[method]input-stream.blocking-read", true)]
    {
        streams.func_wrap_async(
            name,
            move |mut store, (stream, length): (Resource<DynInputStream>, u64)| {
                Box::new(async move {
                    let run = store.data_mut();
                    let read = run.read(&stream, length, Reading { blocking, skip: false }).await;
                    Ok((run.stream_result(read)?,))
                })
            },
        )?;
    }
    for (name, blocking) in
        [("[method]input-stream.skip", false), ("[method]input-stream.blocking-skip", true)]
    {
        streams.func_wrap_async(
            name,
            move |mut store, (stream, length): (Resource<DynInputStream>, u64)| {
                Box::new(async move {
                    let run = store.data_mut();
                    let read = run.read(&stream, length, Reading { blocking, skip: true }).await;
                    let skipped = read.map(|bytes| bytes.len() as u64);
                    Ok((run.stream_result(skipped)?,))
                })
            },
        )?;
    }
    streams.func_wrap(
        "[method]input-stream.subscribe",
        |mut store, (stream,): (Resource<DynInputStream>,)| {
            let run = store.data_mut();
            let answer = run.taped.answer(stream.rep());
            let pollable = streams::HostInputStream::subscribe(&mut run.table, stream)?;
            let wait = answer.map_or(Wait::Never, |stream| Wait::Outside(format!("read stream {stream}")));
            run.taped.put(pollable.rep(), Some(Note::Waits(wait)));
            Ok((pollable,))
        },
    )?;
    linker.instance(ERROR)?.func_wrap(
        "[method]error.to-debug-string",
        |mut store, (error,): (Resource<IoError>,)| {
            let run = store.data_mut();
            // With a backtrace, where the process is asked for them.
            Ok((match run.step("wasi:io/error.error.to-debug-string", &())? {
                Step::Live(call) => {
                    let words = run.table.to_debug_string(error)?;
                    call.end("ok", &words);
                    words
                }
                Step::Played(words) => words,
            },))
        },
    )?;
    linker.instance(STDIN)?.func_wrap("get-stdin", |mut store, (): ()| {
        let run = store.data_mut();
        let stream = stdin::Host::get_stdin(&mut run.cli())?;
        run.taped.put(stream.rep(), None);
        Ok((stream,))
    })
}

impl RunState {
    /// As the component model has it.
    pub(super) fn stream_result<T>(
        &mut self,
        result: StreamResult<T>,
    ) -> wasmtime::Result<Result<T, streams::StreamError>> {
        match result {
            Ok(value) => Ok(Ok(value)),
            Err(error) => Ok(Err(self.table.convert_stream_error(error)?)),
        }
    }

    /// Reading for [`super::output`]'s splice.
    pub(super) async fn read_some(
        &mut self,
        stream: &Resource<DynInputStream>,
        length: u64,
        blocking: bool,
    ) -> StreamResult<Vec<u8>> {
        self.read(stream, length, Reading { blocking, skip: false }).await
    }

    async fn read(
        &mut self,
        stream: &Resource<DynInputStream>,
        length: u64,
        how: Reading,
    ) -> StreamResult<Vec<u8>> {
        let Some(number) = self.taped.answer(stream.rep()) else {
            return self.read_live(stream, length, how.blocking).await;
        };
        let on = On { stream: number, length: Some(length) };
        match self.step(how.function(), &on).map_err(StreamError::Trap)? {
            Step::Live(call) => {
                // Skipped bytes are part of the stream: what skips in wasmtime reads and forgets.
                let read = self.read_live(stream, length, how.blocking).await;
                let (flow, read) = match read {
                    Ok(bytes) => (Flow::Ok(Some(bytes.len() as u64)), Ok(bytes)),
                    Err(error) => {
                        let failed = Err(error);
                        (Flow::of(&failed, true), failed.map(|_| Vec::new()))
                    }
                };
                call.end(flow.outcome(), &flow);
                if let (Tape::Recording(recorder), Ok(bytes)) = (&self.scope.tape, &read) {
                    recorder.stream_bytes(number, bytes);
                }
                read
            }
            Step::Played(flow) => {
                let length = usize::try_from(Flow::result(flow)?).unwrap_or(usize::MAX);
                match &self.scope.tape {
                    Tape::Replaying(player) => Ok(player.read(number, length).into()),
                    Tape::Off | Tape::Recording(_) => Ok(Vec::new()),
                }
            }
        }
    }

    async fn read_live(
        &mut self,
        stream: &Resource<DynInputStream>,
        length: u64,
        blocking: bool,
    ) -> StreamResult<Vec<u8>> {
        let stream = Resource::new_borrow(stream.rep());
        match blocking {
            true => self.table.blocking_read(stream, length).await,
            false => streams::HostInputStream::read(&mut self.table, stream, length),
        }
    }

    /// The number of a body that comes from outside.
    pub(super) fn new_input(&mut self) -> u32 {
        self.new_stream(StreamKind::Input)
    }
}
