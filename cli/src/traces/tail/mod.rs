//! `longshore tail`: what runs do, live and historic.

mod block;
mod event;
mod runs;

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use longshore_proto::TenantId;
use serde_json::json;

use self::block::Style;
use self::event::{Line, parse, rank};
use self::runs::{Recent, Runs};
use super::target::{self, Target};
use super::values::{millis, show_share};
use crate::exit::{Exit, Failure};
use crate::fleet::client::Route;
use crate::fleet::spans::{parse_since, parse_span};
use crate::fleet::{AdminClient, FleetArgs, TenantArgs, block_on};
use crate::output::Output;

/// What `--no-follow` shows where nothing else is said.
const DEFAULT_SPAN: &str = "1h";
/// A line of the service: an event has at most some 64 KiB of text.
const MAX_LINE_BYTES: usize = 4 << 20;
/// The service gives a sign of life every 15 s.
const SILENCE: Duration = Duration::from_secs(60);
/// How often runs are looked at that have gone quiet.
const TICK: Duration = Duration::from_millis(500);
/// The longest pause between attempts to get a connection back.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// After an interruption this much is read again; what was shown is not shown twice.
const OVERLAP_MS: u64 = 5_000;

/// Arguments of `longshore tail`.
#[derive(clap::Args, Clone, Debug)]
pub struct TailArgs {
    /// Of this extension alone; the tenant may be left out where it is named otherwise
    #[arg(value_name = "TENANT/EXTENSION")]
    pub target: Option<String>,
    /// Also what has happened since: a time such as 2026-01-31T12:00:00Z, or a span before now such as 1h
    #[arg(long, value_name = "TIME|SPAN", value_parser = parse_since)]
    pub since: Option<String>,
    /// Only of this request
    #[arg(long, value_name = "ID")]
    pub request: Option<String>,
    /// Only lines of at least this level, and runs that have such
    #[arg(long, value_name = "trace|debug|info|warn|error", value_parser = ["trace", "debug", "info", "warn", "error"])]
    pub level: Option<String>,
    /// Ends with what has happened so far; without --since that of the last hour
    #[arg(long)]
    pub no_follow: bool,
    #[command(flatten)]
    /// Whose.
    pub tenant: TenantArgs,
    #[command(flatten)]
    /// Where.
    pub fleet: FleetArgs,
}

/// Runs `longshore tail`.
///
/// # Errors
/// Those of the admin API; a connection that was there and has gone is tried again.
pub fn run(args: &TailArgs, output: &Output) -> Result<ExitCode, Failure> {
    block_on(async {
        let client = AdminClient::new(&args.fleet)?;
        let (tenant, extension) = match &args.target {
            Some(text) => {
                let target = Target::of(text, &client, &args.tenant)?;
                let extension = known(&client, &target, output).await?;
                (target.tenant, Some(extension))
            }
            None => (client.place().tenant(&args.tenant)?, None),
        };
        let since = match (&args.since, args.no_follow) {
            (Some(since), _) => millis(since),
            (None, true) => {
                parse_span(DEFAULT_SPAN).ok().map(|span| now_ms().saturating_sub(span.as_millis() as u64))
            }
            (None, false) => None,
        };
        let color = output.is_terminal() && !super::replay::no_color();
        let least = args.level.as_deref().map_or(0, rank);
        let mut tail = Tail {
            client,
            tenant,
            extension,
            request: args.request.clone(),
            // Of a stream of documents each stands alone; of a run the head and the end are needed to show the rest.
            level: args.level.clone().filter(|_| output.json),
            follow: !args.no_follow,
            since,
            runs: Runs::new(Style { color, least }),
            recent: Recent::default(),
            output: *output,
        };
        let ended = tokio::select! {
            ended = tail.watch() => ended,
            _ = tokio::signal::ctrl_c() => Ok(()),
        };
        tail.flush();
        ended.map(|()| Exit::Ok.into())
    })
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// The extension's registry id; says what of its runs is not published.
async fn known(client: &AdminClient, target: &Target, output: &Output) -> Result<String, Failure> {
    let found = match target::install(client, target).await {
        Err(failure) if failure.exit == Exit::NotFound => None,
        other => other?,
    };
    let Some(found) = found else {
        // What was uninstalled may have left events.
        output.note(format!(
            "note: tenant {} has no install {:?} now: only what its runs have left is shown (`longshore list --tenant {}` shows what it has)",
            target.tenant, target.extension, target.tenant
        ));
        return Ok(target.extension.clone());
    };
    if found.capture == "off" {
        output.note("note: its capture level is off: nothing is published of its runs (`longshore record on` records)");
    }
    if let Some(recording) = found.recording.filter(|recording| recording.sample < 1.0) {
        let share = show_share(recording.sample);
        output.note(format!("note: {share} of its runs are recorded; events are published of all that its capture level allows"));
    }
    Ok(found.extension)
}

struct Tail {
    client: AdminClient,
    tenant: TenantId,
    extension: Option<String>,
    request: Option<String>,
    level: Option<String>,
    follow: bool,
    since: Option<u64>,
    runs: Runs,
    recent: Recent,
    output: Output,
}

impl Tail {
    /// Until everything was shown, or for ever.
    async fn watch(&mut self) -> Result<(), Failure> {
        let mut body = self.open().await?;
        loop {
            let broken = self.read(body).await;
            if !self.follow && broken.is_none() {
                return Ok(());
            }
            let why = broken.unwrap_or_else(|| "it was closed".to_owned());
            if !self.follow {
                return Err(Failure::new(
                    Exit::Unreachable,
                    "interrupted",
                    format!("the events broke off: {why}"),
                ));
            }
            self.output.note(format!("note: the connection was interrupted ({why}); trying again"));
            body = self.again().await?;
            self.output.note("note: connected again; what was published in between follows");
        }
    }

    async fn open(&self) -> Result<Incoming, Failure> {
        let route = Route::of_tenant(&self.tenant, ["events"])
            .with_some("extension", self.extension.as_ref())
            .with_some("since_ms", self.since)
            .with_some("request", self.request.as_ref())
            .with_some("level", self.level.as_ref())
            .with("follow", self.follow);
        self.client.open(route).await
    }

    /// A new connection, however long it takes; a refusal is none.
    async fn again(&mut self) -> Result<Incoming, Failure> {
        let last = self.recent.last_ms().map(|ms| ms.saturating_sub(OVERLAP_MS));
        self.since = Some(last.or(self.since).unwrap_or_else(|| now_ms().saturating_sub(OVERLAP_MS)));
        let mut pause = Duration::from_millis(500);
        loop {
            tokio::time::sleep(pause).await;
            match self.open().await {
                Err(failure) if failure.exit == Exit::Unreachable => pause = (pause * 2).min(MAX_PAUSE),
                other => return other,
            }
        }
    }

    /// Reads until the end. Some: why it broke off.
    async fn read(&mut self, mut body: Incoming) -> Option<String> {
        let mut kept = Vec::new();
        let mut heard = tokio::time::Instant::now();
        let mut tick = tokio::time::interval(TICK);
        loop {
            let frame = tokio::select! {
                frame = body.frame() => frame,
                _ = tick.tick() => {
                    if heard.elapsed() > SILENCE {
                        return Some(format!("nothing was heard for {} s", SILENCE.as_secs()));
                    }
                    self.show(true);
                    continue;
                }
            };
            heard = tokio::time::Instant::now();
            match frame {
                None => break,
                Some(Err(error)) => return Some(longshore_service::errors::chain(&error).to_string()),
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    kept.extend_from_slice(&data);
                    self.lines(&mut kept);
                    if kept.len() > MAX_LINE_BYTES {
                        return Some("a line is over 4 MiB".to_owned());
                    }
                }
            }
        }
        if !kept.is_empty() {
            self.line(&String::from_utf8_lossy(&kept));
        }
        None
    }

    /// The whole lines of what has come.
    fn lines(&mut self, kept: &mut Vec<u8>) {
        let Some(end) = kept.iter().rposition(|byte| *byte == b'\n') else { return };
        let rest = kept.split_off(end + 1);
        for line in std::mem::replace(kept, rest).split(|byte| *byte == b'\n') {
            self.line(&String::from_utf8_lossy(line));
        }
        self.show(false);
    }

    fn line(&mut self, line: &str) {
        match parse(line) {
            None => self.output.note("note: a line of the service was not understood"),
            Some(Line::Heartbeat) => {}
            Some(Line::Lost(lost)) => {
                if self.output.json {
                    self.output.item(&json!({ "lost": lost }), String::new);
                } else {
                    self.output.note(format!(
                        "note: {lost} events were lost: this reader was too slow, or Redis has trimmed them"
                    ));
                }
            }
            Some(Line::Event(event)) => {
                if !self.recent.is_new(line, event.at_ms) {
                    return;
                }
                if self.output.json {
                    // As the service spelled it, in one line that nothing steers.
                    let document: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
                    self.output.item(&document, String::new);
                } else {
                    self.runs.push(*event);
                }
            }
        }
    }

    /// Shows what is over; with `quiet` also runs that have not said anything for a while.
    fn show(&mut self, quiet: bool) {
        for text in self.runs.ready(quiet) {
            self.output.line(text);
        }
    }

    /// Shows the rest.
    fn flush(&mut self) {
        for text in self.runs.rest() {
            self.output.line(text);
        }
    }
}
