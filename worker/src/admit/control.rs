//! Questions, cancels, and what is due with time.

use std::sync::Arc;

use async_nats::Message;
use longshore_proto::frame::{Control, Question, Reply};
use longshore_proto::{subject, wire};

use super::Admission;

impl Admission {
    /// A message on `ctl.<pool>.<worker>`.
    pub(super) fn control(&self, message: &Message) {
        match wire::decode::<Control>(&message.payload) {
            Ok(Control::Question(question)) => self.question(message, &question),
            Ok(Control::Cancel { shim, call }) => {
                let stop = self.table.lock().cancel(self.now_ms(), shim, call);
                if stop {
                    self.stop(call);
                }
            }
            Ok(Control::Decline { shim }) => {
                self.table.lock().decline(shim);
                self.offer(true);
            }
            Err(error) => {
                self.metrics.refused_messages.inc();
                tracing::warn!(error = %longshore_service::errors::chain(&error), "a control message cannot be decoded");
            }
        }
    }

    fn question(&self, message: &Message, question: &Question) {
        let own = format!("{}{}.", subject::SHIM_INBOX, question.shim);
        let Some(reply) = message.reply.as_deref().filter(|r| subject::is_under(r, &own)) else { return };
        let report = self.table.lock().question(self.now_ms(), question);
        self.say(reply, Reply::Status { question: question.number, calls: report.calls });
        for answer in report.resend {
            self.say(&answer.reply, answer.frame.clone());
        }
        for call in report.cancel {
            self.stop(call);
        }
    }

    /// Forgets what is due, stops the runs of silent shims, and hands on promised slots that nobody came for.
    pub(super) fn tick(&self) {
        let (orphans, changed) = {
            let mut table = self.table.lock();
            let before = table.unwell();
            (table.tick(self.now_ms()), before != table.unwell())
        };
        for call in orphans {
            tracing::info!(execution = %call.execution, "the shim of this run is silent for 10 s; the run is stopped");
            self.stop(call);
        }
        if changed {
            self.announce_now.notify_one();
        }
    }

    /// Looks after promised slots: when a promise ends unused, the next in line is asked.
    pub async fn keep_promises(self: Arc<Self>) {
        loop {
            self.promised.notified().await;
            loop {
                let end = self.table.lock().next_reservation_end();
                let Some(end) = end else { break };
                let wait = end.saturating_sub(self.now_ms());
                tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
                // As if freed now: nobody else knows of it.
                self.offer(true);
                let after = self.table.lock().next_reservation_end();
                if after.is_some_and(|after| after <= self.now_ms()) {
                    // Nobody is left to be asked; the next admission clears what has ended.
                    break;
                }
            }
        }
    }
}
