//! The worker's driver: what `longshore_worker::admit` does around its table, on the simulated network.

use super::*;

impl World {
    pub(super) fn say(&mut self, worker: usize, shim: BootId, frame: Reply) {
        let w = &self.workers[worker];
        let frame = WorkerFrame { v: 1, worker: w.id, free: w.table.free(), frame };
        self.send_to_shim(worker, shim, ToShim::Frame(Box::new(frame)));
    }

    pub(super) fn worker_hears(&mut self, worker: usize, message: ToWorker) {
        let now = self.now;
        let w = &mut self.workers[worker];
        if !w.alive || !w.connected || w.cut {
            return;
        }
        match message {
            ToWorker::Call(arrival, call) => {
                let shim = arrival.shim.as_ref().unwrap().0;
                match w.table.admit(now, &arrival) {
                    Admission::Run => {
                        let run_ms = self.rng.random_range(1..=self.faults.max_run_ms).min(arrival.budget_ms);
                        let caller = self.callers.get_mut(&call.execution).unwrap();
                        caller.runs += 1;
                        w.running.insert(call, (caller.shim, now + arrival.budget_ms));
                        self.agenda.at(now + run_ms, Event::RunEnds(worker, call));
                        self.say(worker, shim, Reply::Taken(call));
                    }
                    Admission::Running => self.say(worker, shim, Reply::Taken(call)),
                    Admission::Busy(reason) => self.say(worker, shim, Reply::Busy { call, reason }),
                    Admission::Done(answer) => self.say(worker, shim, (*answer).clone()),
                    Admission::Over => {}
                }
                if let Some(end) = self.workers[worker].table.next_reservation_end() {
                    self.agenda.at(end, Event::ReservationEnds(worker));
                }
            }
            ToWorker::Question(question) => {
                let report = w.table.question(now, &question);
                self.say(
                    worker,
                    question.shim,
                    Reply::Status { question: question.number, calls: report.calls },
                );
                for answer in report.resend {
                    self.say(worker, question.shim, (*answer).clone());
                }
                for call in report.cancel {
                    self.run_ends(worker, call, Some(ErrorCode::Cancelled));
                }
            }
            ToWorker::Cancel(shim, call) => {
                if w.table.cancel(now, shim, call) {
                    self.run_ends(worker, call, Some(ErrorCode::Cancelled));
                }
            }
            ToWorker::Decline(shim) => {
                w.table.decline(shim);
                self.offer(worker, true);
            }
            ToWorker::ShimAlive(shim) => {
                w.table.hear_shim(now, shim);
            }
        }
    }

    pub(super) fn run_ends(&mut self, worker: usize, call: CallRef, error: Option<ErrorCode>) {
        let now = self.now;
        let w = &mut self.workers[worker];
        if !w.alive {
            return;
        }
        let Some((shim, deadline)) = w.running.remove(&call) else { return };
        let error = error.or_else(|| (now >= deadline).then_some(ErrorCode::Timeout));
        let large = self.rng.random_bool(0.2);
        let frame = match error {
            Some(code) => Reply::Failed { call, error: CallError::from(code) },
            None => {
                let body = if large {
                    Body::Remote(RemoteBody { source: "_R.worker.x".into(), len: 9 })
                } else {
                    Body::None
                };
                Reply::Result {
                    call,
                    response: Box::new(RunResponse {
                        status: 200,
                        headers: Vec::new(),
                        body,
                        trailers: Vec::new(),
                    }),
                }
            }
        };
        let was_full = w.table.free() == 0;
        w.table.finish(now, call, Some((Arc::new(frame.clone()), 100)), None);
        let shim = self.shims[shim].id;
        self.say(worker, shim, frame);
        self.offer(worker, was_full);
    }

    pub(super) fn offer(&mut self, worker: usize, was_full: bool) {
        let now = self.now;
        if !self.workers[worker].alive {
            return;
        }
        let mut offered = false;
        while let Some(who) = self.workers[worker].table.next_offer(now) {
            offered = true;
            self.say(worker, who.shim, Reply::Offer { tenant: who.tenant });
        }
        if offered {
            if let Some(end) = self.workers[worker].table.next_reservation_end() {
                self.agenda.at(end, Event::ReservationEnds(worker));
            }
        } else if was_full && self.workers[worker].leaving_since.is_none() {
            let w = &self.workers[worker];
            let notice = FreeNotice { worker: w.id, free: w.table.free() };
            self.send_to_all_shims(worker, ToShim::Free(notice));
        }
    }

    pub(super) fn worker_tick(&mut self, worker: usize) {
        let now = self.now;
        let w = &mut self.workers[worker];
        if !w.alive {
            return;
        }
        let orphans = if w.connected { w.table.tick(now) } else { Vec::new() };
        if let Some(since) = w.leaving_since {
            let settled = w.running.is_empty() && (w.table.unacknowledged() == 0 || now >= since + 5_000);
            if settled && now >= since + 3_000 {
                w.alive = false;
            }
        }
        for call in orphans {
            self.run_ends(worker, call, Some(ErrorCode::Cancelled));
        }
        self.agenda.at(now + 100, Event::WorkerTick(worker));
    }

    pub(super) fn announce(&mut self, worker: usize) {
        let w = &mut self.workers[worker];
        w.announcements += 1;
        let announcement = WorkerAnnouncement {
            v: 1,
            worker: w.id,
            pool: PoolName::default(),
            name: String::new(),
            version: String::new(),
            number: w.announcements,
            slots: 3,
            free: w.table.free(),
            load_percent: 0,
            leaving: w.leaving_since.is_some(),
            unwell: w.table.unwell(),
        };
        self.send_to_all_shims(worker, ToShim::Announcement(announcement));
    }
}
