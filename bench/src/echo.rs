//! The worker of the floor: the same frames on the same subjects, and no engine.
//!
//! It answers every call with the same response as soon as it has read it, on one thread, and keeps nothing: what it
//! costs is what HTTP, the shim and the NATS hop cost.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::{ConnectOptions, Message};
use futures::StreamExt as _;
use longshore_proto::call::CallMessage;
use longshore_proto::frame::{CallRef, Control, Reply, RunStatus, WorkerAnnouncement, WorkerFrame};
use longshore_proto::wire::{self, PROTOCOL_VERSION, WireError};
use longshore_proto::{BootId, PoolName, RunResponse, subject};

/// As the real worker announces itself.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1);

/// Arguments of `longshore-bench echo-worker`.
#[derive(Debug, clap::Args)]
pub struct EchoArgs {
    /// The server.
    #[arg(long)]
    nats_url: String,
    /// Its password for the user `worker`. From the environment alone: arguments are seen by everybody on the machine.
    #[arg(long, env = "NATS_PASSWORD", hide_env_values = true)]
    nats_password: String,
    /// Slots to announce: as many as the worker beside it has.
    #[arg(long, default_value = "8")]
    slots: u32,
    /// A file with the response that every call gets, as it stands in a frame.
    #[arg(long)]
    answer: PathBuf,
}

/// Serves until it is killed.
///
/// # Errors
/// No server, or no file, or a message that cannot be read: nothing that a benchmark should go on with.
pub async fn run(args: EchoArgs) -> anyhow::Result<()> {
    let file =
        std::fs::read(&args.answer).with_context(|| format!("cannot read {}", args.answer.display()))?;
    let echo = Echo::new(args.slots, wire::decode(&file).context("the answer cannot be decoded")?);
    let client = ConnectOptions::with_user_and_password("worker".to_owned(), args.nats_password)
        .name("echo-worker")
        .ping_interval(Duration::from_secs(1))
        .connect(&args.nats_url)
        .await
        .context("cannot connect to NATS")?;
    let mut calls = client.subscribe(subject::exec(&echo.pool, echo.boot)).await?;
    let mut control = client.subscribe(subject::control(&echo.pool, echo.boot)).await?;
    let fleet = subject::fleet_worker(&echo.pool, echo.boot);
    let mut tick = tokio::time::interval(ANNOUNCE_EVERY);
    let mut announced = 0;
    loop {
        let frames = tokio::select! {
            message = calls.next() => echo.call(&message.context("the NATS client ended")?)?,
            message = control.next() => echo.control(&message.context("the NATS client ended")?)?,
            _ = tick.tick() => {
                announced += 1;
                client.publish(fleet.clone(), wire::encode(&echo.announcement(announced))?.into()).await?;
                continue;
            }
        };
        for (to, frame) in frames {
            client.publish(to, frame.into()).await?;
        }
    }
}

/// Frames and where they go.
type Frames = Vec<(async_nats::Subject, Vec<u8>)>;

struct Echo {
    boot: BootId,
    pool: PoolName,
    slots: u32,
    answer: Box<RunResponse>,
}

impl Echo {
    fn new(slots: u32, answer: RunResponse) -> Self {
        Self { boot: BootId::random(), pool: PoolName::default(), slots, answer: Box::new(answer) }
    }

    fn frame(&self, frame: Reply) -> Result<Vec<u8>, WireError> {
        wire::encode(&WorkerFrame { v: PROTOCOL_VERSION, worker: self.boot, free: self.slots, frame })
    }

    fn announcement(&self, number: u64) -> WorkerAnnouncement {
        WorkerAnnouncement {
            v: PROTOCOL_VERSION,
            worker: self.boot,
            pool: self.pool.clone(),
            name: "echo".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            number,
            slots: self.slots,
            free: self.slots,
            load_percent: 0,
            leaving: false,
            unwell: false,
        }
    }

    /// `taken` and `result`, in two messages as a worker sends them.
    fn call(&self, message: &Message) -> anyhow::Result<Frames> {
        let reply = message.reply.clone().context("a call without a reply subject")?;
        let call: CallMessage = wire::decode(&message.payload).context("a call cannot be decoded")?;
        let call = CallRef { execution: call.execution, send: call.send };
        let taken = self.frame(Reply::Taken(call))?;
        let result = self.frame(Reply::Result { call, response: self.answer.clone() })?;
        Ok(vec![(reply.clone(), taken), (reply, result)])
    }

    /// Every call that is asked about is running: it has been read or soon will be, and its answer follows at once. A
    /// lost answer is not sent again: that call fails, and with it the benchmark.
    fn control(&self, message: &Message) -> anyhow::Result<Frames> {
        let control = wire::decode::<Control>(&message.payload).context("a question cannot be decoded")?;
        let (Control::Question(question), Some(reply)) = (control, message.reply.clone()) else {
            return Ok(Vec::new());
        };
        let calls = question.calls.iter().map(|asked| (asked.call, RunStatus::Running)).collect();
        Ok(vec![(reply, self.frame(Reply::Status { question: question.number, calls })?)])
    }
}

#[cfg(test)]
mod tests {
    use longshore_proto::call::{Run, RunContext, RunHttp};
    use longshore_proto::frame::{AskedCall, Question};
    use longshore_proto::{Body, ContentHash, ExecutionId, SendNo};

    use super::*;

    const REPLY: &str = "_R.shim.a.b";

    fn echo() -> Echo {
        Echo::new(8, RunResponse { status: 201, headers: Vec::new(), body: Body::None, trailers: Vec::new() })
    }

    fn message(payload: Vec<u8>, reply: Option<&str>) -> Message {
        Message {
            subject: "exec.default.x".into(),
            reply: reply.map(Into::into),
            length: payload.len(),
            payload: payload.into(),
            headers: None,
            status: None,
            description: None,
        }
    }

    fn call() -> CallMessage {
        let context = RunContext {
            request_id: None,
            tenant: "t".parse().unwrap(),
            extension: "e".parse().unwrap(),
            install_id: None,
            version_id: None,
            content_hash: ContentHash::from_bytes([7; 32]),
            config: Default::default(),
            trigger: None,
        };
        let http = RunHttp {
            method: "GET".to_owned(),
            url: "/".to_owned(),
            headers: Vec::new(),
            scheme: None,
            authority: None,
        };
        let run = Run {
            context,
            http,
            limits: Default::default(),
            capabilities: Default::default(),
            user: None,
            secret_envelope: None,
            egress: None,
            capture: Default::default(),
        };
        CallMessage { send: SendNo(3), ..CallMessage::new(ExecutionId::random(), run, Body::None, 1_000) }
    }

    fn replies(frames: &Frames) -> Vec<Reply> {
        assert!(frames.iter().all(|(to, _)| to.as_str() == REPLY));
        frames.iter().map(|(_, frame)| wire::decode::<WorkerFrame>(frame).unwrap().frame).collect()
    }

    #[test]
    fn a_call_is_taken_and_then_answered_under_its_own_name() {
        let (echo, call) = (echo(), call());
        let answer = echo.answer.clone();
        let reference = CallRef { execution: call.execution, send: call.send };
        let frames = echo.call(&message(wire::encode(&call).unwrap(), Some(REPLY))).unwrap();
        let expected = [Reply::Taken(reference), Reply::Result { call: reference, response: answer }];
        assert_eq!(replies(&frames), expected);
    }

    #[test]
    fn every_call_of_a_question_is_reported_so_that_none_counts_as_lost() {
        let asked = [1, 2].map(|n| CallRef { execution: ExecutionId::random(), send: SendNo(n) });
        let question = Question {
            v: PROTOCOL_VERSION,
            shim: BootId::random(),
            number: 9,
            up_to: SendNo(2),
            calls: asked.map(|call| AskedCall { call, budget_ms: 100 }).to_vec(),
        };
        let payload = wire::encode(&Control::Question(question)).unwrap();
        let frames = echo().control(&message(payload, Some(REPLY))).unwrap();
        let calls = asked.map(|call| (call, RunStatus::Running)).to_vec();
        assert_eq!(replies(&frames), [Reply::Status { question: 9, calls }]);
    }

    #[test]
    fn a_cancel_is_passed_over_and_rubbish_ends_the_worker() {
        let call = CallRef { execution: ExecutionId::random(), send: SendNo(1) };
        let cancel = wire::encode(&Control::Cancel { shim: BootId::random(), call }).unwrap();
        assert!(echo().control(&message(cancel, None)).unwrap().is_empty());
        assert!(echo().call(&message(b"rubbish".to_vec(), Some(REPLY))).is_err());
        assert!(echo().call(&message(wire::encode(&self::call()).unwrap(), None)).is_err());
    }
}
