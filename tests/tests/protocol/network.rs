//! Messages on their way, and what can happen to them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use gateway_shim::dispatch::machine::CallMeta;
use longshore_proto::frame::{CallRef, FreeNotice, Question, WorkerAnnouncement, WorkerFrame};
use longshore_proto::{BootId, ExecutionId};
use longshore_worker::admit::table::Arrival;

/// Something that happens at a time.
#[derive(Debug, Clone)]
pub enum Event {
    Submit(usize, ExecutionId, Box<CallMeta>),
    Abandon(usize, ExecutionId),
    ToWorker(usize, ToWorker),
    ToShim(usize, ToShim),
    ShimTick(usize),
    ShimDeadline(usize),
    WorkerTick(usize),
    Announce(usize),
    ShimAnnounce(usize),
    RunEnds(usize, CallRef),
    ReservationEnds(usize),
    FetchStep(usize, CallRef, FetchStep),
    Fault(Fault),
}

#[derive(Debug, Clone)]
pub enum ToWorker {
    Call(Arrival, CallRef),
    Question(Question),
    Cancel(BootId, CallRef),
    Decline(BootId),
    ShimAlive(BootId),
}

#[derive(Debug, Clone)]
pub enum ToShim {
    Frame(Box<WorkerFrame>),
    Announcement(WorkerAnnouncement),
    Free(FreeNotice),
    NoResponders(CallRef),
}

#[derive(Debug, Clone, Copy)]
pub enum FetchStep {
    First,
    Last,
}

#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// The server notices: the client is told, and what is sent meanwhile is refused or lost.
    ShimLink(usize, bool),
    WorkerLink(usize, bool),
    /// Nobody notices: messages vanish.
    ShimCut(usize, bool),
    WorkerCut(usize, bool),
    /// The process is stopped and continued: it neither ticks nor reads.
    ShimPause(usize, bool),
    KillWorker(usize),
    KillShim(usize),
    StartWorker,
    LeaveWorker(usize),
}

/// Events in order of time; of one time, in the order in which they were made.
#[derive(Debug, Default)]
pub struct Agenda {
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    events: std::collections::BTreeMap<u64, Event>,
    next: u64,
}

impl Agenda {
    pub fn at(&mut self, time: u64, event: Event) {
        self.heap.push(Reverse((time, self.next)));
        self.events.insert(self.next, event);
        self.next += 1;
    }

    pub fn next(&mut self) -> Option<(u64, Event)> {
        let Reverse((time, number)) = self.heap.pop()?;
        Some((time, self.events.remove(&number)?))
    }
}
