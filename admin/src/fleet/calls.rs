//! Calls that wait and run, in all gateways.

use std::collections::BTreeSet;
use std::time::Duration;

use longshore_proto::fleet::{CallFilter, CallState, MAX_LISTED_CALLS, ShimCalls, ShimCancelled, ToShims};
use longshore_proto::{BootId, TenantId, subject, wire};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::{AskError, Asker, Heard};
use crate::api::{CallList, CallView, CallsCancelled};

/// How long answers are waited for. A gateway answers within milliseconds; one that does not is named.
const WAIT: Duration = Duration::from_millis(1500);

/// How much longer after the last of those that announce themselves: for one that has just started.
const LATE: Duration = Duration::from_millis(100);

impl Asker {
    /// The calls that wait and run.
    ///
    /// # Errors
    /// Nobody could be asked.
    pub async fn calls(&self, heard: &Heard, tenant: Option<TenantId>) -> Result<CallList, AskError> {
        let asked: Option<TenantId> = tenant.clone();
        let (answers, silent_shims) =
            self.all_shims::<ShimCalls>(heard, ToShims::Calls { tenant: asked }, |a| a.shim).await?;
        let mut list = CallList { calls: Vec::new(), more: 0, shims: answers.len() as u64, silent_shims };
        for answer in answers {
            list.more = list.more.saturating_add(answer.more);
            let shim = answer.shim.to_string();
            // What a gateway says is checked like everything that comes over the network.
            let mine =
                answer.calls.into_iter().filter(|call| tenant.as_ref().is_none_or(|t| *t == call.tenant));
            list.calls.extend(mine.take(MAX_LISTED_CALLS).map(|call| CallView {
                execution: call.execution.to_string(),
                shim: shim.clone(),
                tenant: call.tenant.to_string(),
                extension: call.extension.to_string(),
                pool: call.pool.to_string(),
                request_id: call.request_id,
                method: call.method,
                state: match call.state {
                    CallState::Waiting => "waiting".to_owned(),
                    CallState::Running => "running".to_owned(),
                },
                age_ms: call.age_ms,
                left_ms: call.left_ms,
                attempts: call.attempts,
                worker: call.worker.map(|worker| worker.to_string()),
            }));
        }
        list.calls.sort_by(|a, b| (b.age_ms, &a.execution).cmp(&(a.age_ms, &b.execution)));
        let over = list.calls.len().saturating_sub(MAX_LISTED_CALLS);
        list.calls.truncate(MAX_LISTED_CALLS);
        list.more = list.more.saturating_add(over as u64);
        Ok(list)
    }

    /// Stops calls.
    ///
    /// # Errors
    /// Nobody could be asked.
    pub async fn cancel(&self, heard: &Heard, filter: CallFilter) -> Result<CallsCancelled, AskError> {
        let (answers, silent_shims) =
            self.all_shims::<ShimCancelled>(heard, ToShims::Cancel(filter), |a| a.shim).await?;
        let sum = |part: fn(&ShimCancelled) -> u64| answers.iter().map(part).fold(0, u64::saturating_add);
        Ok(CallsCancelled {
            waiting: sum(|answer| answer.waiting),
            running: sum(|answer| answer.running),
            shims: answers.len() as u64,
            silent_shims,
        })
    }

    /// One answer of each gateway, and those that announce themselves and gave none.
    async fn all_shims<T: DeserializeOwned>(
        &self,
        heard: &Heard,
        question: ToShims,
        who: fn(&T) -> BootId,
    ) -> Result<(Vec<T>, Vec<String>), AskError> {
        let mut answers = self.ask(subject::CONTROL_SHIMS, &question).await?;
        let began = Instant::now();
        // Who does not know everybody yet waits the whole time.
        let settled = heard.listening() >= super::SILENT;
        let mut until = began + WAIT;
        let mut missing: BTreeSet<BootId> = heard.shims().into_iter().collect();
        let mut found: Vec<T> = Vec::new();
        let mut all_here = false;
        loop {
            if settled && missing.is_empty() && !all_here {
                all_here = true;
                until = until.min(Instant::now() + LATE);
            }
            let left = until.saturating_duration_since(Instant::now());
            let Ok(Some(payload)) = tokio::time::timeout(left, answers.next()).await else { break };
            let Ok(answer) = wire::decode::<T>(&payload) else { continue };
            let shim = who(&answer);
            missing.remove(&shim);
            if found.iter().all(|known| who(known) != shim) {
                found.push(answer);
            }
        }
        Ok((found, missing.into_iter().map(|shim| shim.to_string()).collect()))
    }
}
