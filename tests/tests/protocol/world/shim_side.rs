//! The shim's driver: what `gateway_shim::dispatch` does around its machine, on the simulated network.

use super::*;

impl World {
    pub(super) fn shim_hears(&mut self, shim: usize, message: ToShim) {
        let now = self.now;
        let s = &mut self.shims[shim];
        if !s.alive || !s.connected || s.cut {
            return;
        }
        if s.paused {
            // The socket's buffer keeps it until the process goes on.
            return self.agenda.at(now + 100, Event::ToShim(shim, message));
        }
        match message {
            ToShim::Frame(frame) => s.machine.frame(now, *frame),
            ToShim::Announcement(a) => s.machine.announced(now, &a),
            ToShim::Free(notice) => s.machine.free_notice(now, &notice),
            ToShim::NoResponders(call) => s.machine.no_responders(now, call),
        }
        self.drain(shim);
    }

    pub(super) fn drain(&mut self, shim: usize) {
        for output in self.shims[shim].machine.take_outputs().collect::<Vec<_>>() {
            self.perform(shim, output);
        }
    }

    pub(super) fn perform(&mut self, shim: usize, output: Output) {
        let id = self.shims[shim].id;
        match output {
            Output::Send { worker, call, budget_ms, .. } => {
                let tenant: TenantId =
                    ["a", "b", "c"][usize::from(call.execution.as_bytes()[15]) % 3].parse().unwrap();
                let arrival = Arrival { call, tenant, shim: Some((id, "_R.shim.x".into())), budget_ms };
                let to = self.worker_index(worker);
                self.send_to_worker(shim, to, ToWorker::Call(arrival, call));
            }
            Output::Ask { worker, question, .. } => {
                let to = self.worker_index(worker);
                self.send_to_worker(shim, to, ToWorker::Question(question));
            }
            Output::Cancel { worker, call, .. } => {
                let to = self.worker_index(worker);
                self.send_to_worker(shim, to, ToWorker::Cancel(id, call));
            }
            Output::Decline { worker, .. } => {
                let to = self.worker_index(worker);
                self.send_to_worker(shim, to, ToWorker::Decline(id));
            }
            Output::Answer { execution, result } => {
                let end = result.map_or_else(|e| End::Failed(e.code), |_| End::Ok);
                self.callers.get_mut(&execution).unwrap().answers.push(end);
            }
            Output::Reset { execution, .. } => {
                self.callers.get_mut(&execution).unwrap().answers.push(End::Reset)
            }
            Output::Fetch { call, .. } => {
                self.fetching.insert(call);
                self.agenda.at(self.now + 5, Event::FetchStep(shim, call, FetchStep::First));
            }
            Output::StopFetch { call } => {
                self.fetching.remove(&call);
            }
            Output::Forget { .. } => {}
        }
    }

    pub(super) fn worker_index(&self, id: BootId) -> usize {
        self.workers.iter().position(|w| w.id == id).unwrap()
    }

    pub(super) fn fetch_step(&mut self, shim: usize, call: CallRef, step: FetchStep) {
        let now = self.now;
        if !self.shims[shim].alive || !self.fetching.contains(&call) {
            return;
        }
        let again = |world: &mut Self| world.agenda.at(now + 200, Event::FetchStep(shim, call, step));
        let s = &self.shims[shim];
        if s.paused || s.cut || !s.connected {
            return again(self);
        }
        let holder = (0..self.workers.len()).find(|n| {
            let question = longshore_proto::frame::Question {
                v: 1,
                shim: s.id,
                number: 0,
                up_to: longshore_proto::SendNo(0),
                calls: vec![longshore_proto::frame::AskedCall { call, budget_ms: 1 }],
            };
            let w = &mut self.workers[*n];
            w.alive && w.connected && !w.cut && !w.table.question(now, &question).resend.is_empty()
        });
        let Some(holder) = holder else { return again(self) };
        match step {
            FetchStep::First => {
                if self.shims[shim].machine.commit(call) {
                    let later = self.rng.random_range(1..1_500);
                    self.agenda.at(now + later, Event::FetchStep(shim, call, FetchStep::Last));
                }
            }
            FetchStep::Last => {
                self.fetching.remove(&call);
                self.shims[shim].machine.fetched(call);
                self.workers[holder].table.release(call);
                self.callers.get_mut(&call.execution).unwrap().answers.push(End::Ok);
            }
        }
        self.drain(shim);
    }
}
