//! `wasi:io/poll`: which of them were ready, in the order in which the guest learned it.

use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::io::poll::{Host as _, HostPollable as _};

use super::{Note, Step, Wait};
use crate::host::RunState;

const POLL: &str = "wasi:io/poll@0.2.12";

#[derive(Serialize)]
struct Pollables {
    pollables: Vec<String>,
}

#[derive(Serialize)]
struct Pollable {
    pollable: String,
}

pub(super) fn shadow(linker: &mut Linker<RunState>) -> wasmtime::Result<()> {
    let mut poll = linker.instance(POLL)?;
    poll.func_wrap_async("poll", |mut store, (pollables,): (Vec<Resource<DynPollable>>,)| {
        Box::new(async move { Ok((store.data_mut().poll(pollables).await?,)) })
    })?;
    poll.func_wrap_async("[method]pollable.block", |mut store, (pollable,): (Resource<DynPollable>,)| {
        Box::new(async move { store.data_mut().block(pollable).await })
    })?;
    poll.func_wrap_async("[method]pollable.ready", |mut store, (pollable,): (Resource<DynPollable>,)| {
        Box::new(async move { Ok((store.data_mut().is_ready(pollable).await?,)) })
    })
}

impl RunState {
    fn wait_of(&self, pollable: &Resource<DynPollable>) -> Wait {
        match self.taped.get(pollable.rep()) {
            Some(Note::Waits(wait)) => wait.clone(),
            // Sockets, which can be made and then do nothing.
            _ => Wait::Outside("other".to_owned()),
        }
    }

    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        let waits: Vec<Wait> = pollables.iter().map(|pollable| self.wait_of(pollable)).collect();
        if !waits.iter().any(|wait| matches!(wait, Wait::Outside(_))) {
            for (pollable, wait) in pollables.iter().zip(&waits) {
                self.settle(pollable, wait).await?;
            }
            return self.table.poll(pollables).await;
        }
        let names = waits.iter().map(|wait| match wait {
            Wait::Outside(words) => words.clone(),
            Wait::Never => "ready".to_owned(),
            Wait::Response(_) => "write the answer".to_owned(),
        });
        match self.step("wasi:io/poll.poll", &Pollables { pollables: names.collect() })? {
            Step::Live(call) => {
                let ready = self.table.poll(pollables).await?;
                call.end("ok", &ready);
                Ok(ready)
            }
            Step::Played(ready) => {
                // Looking at them has effects: trailers are read when somebody waits for them.
                for (pollable, wait) in pollables.iter().zip(&waits) {
                    if matches!(wait, Wait::Never) {
                        self.table.ready(Resource::new_borrow(pollable.rep())).await?;
                    }
                }
                Ok(ready)
            }
        }
    }

    async fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        let Wait::Outside(words) = self.wait_of(&pollable) else {
            return self.table.block(pollable).await;
        };
        match self.step("wasi:io/poll.pollable.block", &Pollable { pollable: words })? {
            Step::Live(call) => {
                self.table.block(pollable).await?;
                call.end("ok", &());
                Ok(())
            }
            Step::Played(()) => Ok(()),
        }
    }

    async fn is_ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        let wait = self.wait_of(&pollable);
        let Wait::Outside(words) = wait else {
            self.settle(&pollable, &wait).await?;
            return self.table.ready(pollable).await;
        };
        match self.step("wasi:io/poll.pollable.ready", &Pollable { pollable: words })? {
            Step::Live(call) => {
                let ready = self.table.ready(pollable).await?;
                call.end("ok", &ready);
                Ok(ready)
            }
            Step::Played(ready) => Ok(ready),
        }
    }

    /// Waits for room in the guest's own response if the host reads it; see [`super::output`].
    async fn settle(&mut self, pollable: &Resource<DynPollable>, wait: &Wait) -> wasmtime::Result<()> {
        match wait {
            Wait::Response(is_read) if is_read.load(Relaxed) => {
                self.table.block(Resource::new_borrow(pollable.rep())).await
            }
            _ => Ok(()),
        }
    }
}
