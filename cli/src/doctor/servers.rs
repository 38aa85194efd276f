//! NATS, Redis, and the ports and programs that `longshore dev` needs.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::ConnectErrorKind;
use futures::StreamExt as _;
use longshore_proto::event::{MORE, Part, iso8601, parts};
use longshore_service::errors::chain;
use semver::Version;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpStream;
use url::Url;

use super::finding::Finding;
use super::settings::Surroundings;

/// A server that is well answers at once.
const LIMIT: Duration = Duration::from_secs(3);
/// From this version on the server has all that is used of JetStream.
const NATS_MIN: Version = Version::new(2, 12, 0);
/// Older ones are not tested.
const REDIS_MIN: Version = Version::new(7, 0, 0);
/// The first line of a NATS server, with much room.
const MAX_INFO_BYTES: u64 = 64 << 10;

/// NATS: whether it answers, which version, JetStream, and the user's login.
pub async fn nats(around: &Surroundings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let address = Url::parse(&around.nats_url).ok().and_then(|url| {
        Some((url.host_str()?.trim_matches(['[', ']']).to_owned(), url.port().unwrap_or(4222)))
    });
    let Some((host, port)) = address else {
        return vec![Finding::wrong(
            "nats",
            "nats_url",
            format!("NATS_URL is {:?}", around.nats_url),
            "set it to nats://HOST:4222",
        )];
    };
    match info(&host, port).await {
        Ok(info) => findings.extend(judge_info(&format!("{host}:{port}"), &info)),
        Err(error) => {
            let hint = if around.dev {
                "`longshore dev` has ended, or its nats-server has: look into the log nats.log of its data folder"
            } else {
                "start it (`longshore dev`, `docker compose up nats`), or correct NATS_URL"
            };
            return vec![Finding::wrong(
                "nats",
                "nats_unreachable",
                format!("nobody answers on {host}:{port}: {error}"),
                hint,
            )];
        }
    }
    match (&around.nats_user, &around.nats_password) {
        (Some(user), Some(password)) => findings.push(login(around, user, password.expose()).await),
        _ => findings.push(Finding::skipped(
            "nats login",
            "NATS_USER and NATS_PASSWORD are not set here; see gateway and workers below",
        )),
    }
    findings
}

async fn info(host: &str, port: u16) -> Result<serde_json::Value, String> {
    let ask = async {
        let stream = TcpStream::connect((host, port)).await.map_err(|error| error.to_string())?;
        let mut line = String::new();
        let mut reader = BufReader::new(stream).take(MAX_INFO_BYTES);
        reader.read_line(&mut line).await.map_err(|error| error.to_string())?;
        let json = line.strip_prefix("INFO ").ok_or("it is no NATS server")?;
        serde_json::from_str(json).map_err(|error| error.to_string())
    };
    tokio::time::timeout(LIMIT, ask).await.unwrap_or_else(|_| Err("it says nothing".to_owned()))
}

fn judge_info(address: &str, info: &serde_json::Value) -> Vec<Finding> {
    let text = info.get("version").and_then(|version| version.as_str()).unwrap_or_default();
    let version = match Version::parse(text) {
        Ok(version) if version >= NATS_MIN => {
            Finding::ok("nats", format!("nats-server {version} on {address}"))
        }
        _ => Finding::wrong(
            "nats",
            "nats_version",
            format!("nats-server {text} on {address} is older than {NATS_MIN}"),
            "install a newer one: `make setup`, or the image of docker-compose.yml",
        ),
    };
    let jetstream = match info.get("jetstream").and_then(serde_json::Value::as_bool) {
        Some(true) => Finding::ok("jetstream", "on"),
        _ => Finding::wrong(
            "jetstream",
            "jetstream_off",
            "the server runs without JetStream, where installs, tokens, storage and schedules are kept",
            "start it with deploy/nats.conf and NATS_STORE_DIR set to a folder that it can write",
        ),
    };
    vec![version, jetstream]
}

async fn login(around: &Surroundings, user: &str, password: &str) -> Finding {
    longshore_service::tls::install_provider();
    let options = async_nats::ConnectOptions::new()
        .name("doctor")
        .connection_timeout(LIMIT)
        .max_reconnects(Some(1))
        .user_and_password(user.to_owned(), password.to_owned());
    match tokio::time::timeout(LIMIT, options.connect(&around.nats_url)).await {
        Ok(Ok(_)) => Finding::ok("nats login", format!("as user {user}")),
        Ok(Err(error))
            if matches!(
                error.kind(),
                ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation
            ) =>
        {
            Finding::wrong(
                "nats login",
                "nats_login",
                format!("the user {user} is refused"),
                "NATS_USER and NATS_PASSWORD must be those of deploy/nats.conf: the server's NATS_SHIM_PASSWORD, NATS_WORKER_PASSWORD, NATS_CONTROL_PASSWORD",
            )
        }
        Ok(Err(error)) => {
            Finding::wrong("nats login", "nats_login", chain(&error).to_string(), "see the line above")
        }
        Err(_) => Finding::wrong(
            "nats login",
            "nats_login",
            "no answer to the login",
            "is it a NATS server, and reachable without a proxy?",
        ),
    }
}

/// Redis: whether it answers and which version.
pub async fn redis(around: &Surroundings) -> Finding {
    let Some(url) = &around.redis_url else {
        return Finding::skipped("redis", "RUNNER_DEBUG_REDIS_URL is not set: there are no debug events");
    };
    let ask = async {
        let client = redis::Client::open(url.expose())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd("INFO").arg("server").query_async::<String>(&mut connection).await
    };
    let hint = "start it (`longshore dev`, `docker compose up redis`), or correct RUNNER_DEBUG_REDIS_URL; calls go on without it, their events are lost";
    match tokio::time::timeout(LIMIT, ask).await {
        Ok(Ok(info)) => judge_redis(&info),
        Ok(Err(error)) => {
            Finding::wrong("redis", "redis_unreachable", format!("no answer: {}", chain(&error)), hint)
        }
        Err(_) => Finding::wrong("redis", "redis_unreachable", "no answer in time", hint),
    }
}

fn judge_redis(info: &str) -> Finding {
    let text = info.lines().find_map(|line| line.trim().strip_prefix("redis_version:")).unwrap_or_default();
    match Version::parse(text) {
        Ok(version) if version < REDIS_MIN => Finding::warning(
            "redis",
            "redis_version",
            format!("Redis {version} is older than {REDIS_MIN}, the oldest that is tested"),
            "use a newer one",
        ),
        _ => Finding::ok("redis", format!("Redis {text}")),
    }
}

/// A port that `longshore dev` or compose wants, what for, and what changes it.
pub struct Wanted {
    /// The port.
    pub port: u16,
    /// What for.
    pub what: &'static str,
    /// The variable that names another.
    pub variable: &'static str,
}

/// The ports of the guide.
pub const PORTS: [Wanted; 2] = [
    Wanted { port: 8085, what: "the gateway", variable: "RUNNER_DOCKER_PORT" },
    Wanted { port: 4569, what: "the bundle store", variable: "LONGSHORE_DEV_S3_PORT" },
];

impl Wanted {
    /// The port that the variable names (`read` gives its text), where it names one.
    pub fn of(&self, read: impl Fn(&str) -> Option<String>) -> Self {
        let named = read(self.variable).and_then(|text| text.trim().parse().ok());
        Self { port: named.unwrap_or(self.port), ..*self }
    }
}

/// Whether a fleet could start here: "container does not start" is mostly a port that somebody has.
pub async fn port(wanted: Wanted) -> Finding {
    match tokio::net::TcpListener::bind(("127.0.0.1", wanted.port)).await {
        Ok(_) => Finding::ok("port", format!("{} is free for {}", wanted.port, wanted.what)),
        Err(error) => Finding::wrong(
            "port",
            "port_in_use",
            format!("{} on 127.0.0.1, which {} needs, cannot be used: {error}", wanted.port, wanted.what),
            format!(
                "end what has it (`ss -ltnp 'sport = :{}'` names it; `docker ps` shows containers), or name another by {}=PORT",
                wanted.port, wanted.variable
            ),
        ),
    }
}

/// The programs that `longshore dev` starts.
pub fn programs(path: &[PathBuf]) -> Vec<Finding> {
    let find = |name: &'static str, hint: &'static str| match path
        .iter()
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
    {
        Some(file) => Finding::ok("program", format!("{name}: {}", file.display())),
        None => {
            Finding::wrong("program", "program_missing", format!("{name} is in no folder of the PATH"), hint)
        }
    };
    vec![
        find("nats-server", "`make setup` installs it; or name it by NATS_SERVER_BIN=FILE"),
        find(
            "redis-server",
            "`make setup` installs it; or name it by REDIS_SERVER_BIN=FILE; a Redis that runs already is used too",
        ),
    ]
}

/// How many events of an extension are looked at for its last run.
const EVENTS: usize = 500;

/// How the last run of a tenant's extension ended, by its debug events: traps are there with their backtrace. None: no run is among them.
///
/// # Errors
/// Why it cannot be seen.
pub async fn last_run(
    around: &Surroundings,
    tenant: &str,
    extension: &str,
) -> Result<Option<LastRun>, &'static str> {
    let url =
        around.redis_url.as_ref().ok_or("RUNNER_DEBUG_REDIS_URL is not set: there are no debug events")?;
    // The tenant's own stream (interop 8): the one of everything is written in development alone, and full of others.
    let prefix = &around.stream_prefix;
    let stream = format!("{prefix}{}:{}", tenant.to_ascii_lowercase(), extension.to_ascii_lowercase());
    let ask = async {
        let client = redis::Client::open(url.expose())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut command = redis::cmd("XREVRANGE");
        command.arg(stream).arg("+").arg("-").arg("COUNT").arg(EVENTS);
        command.query_async::<redis::streams::StreamRangeReply>(&mut connection).await
    };
    let Ok(Ok(range)) = tokio::time::timeout(LIMIT, ask).await else {
        return Err("Redis does not answer; see its line");
    };
    Ok(range.ids.iter().find_map(end_of))
}

/// The end of a run that an entry tells of. A run's answer may stand anywhere among the events of an entry.
fn end_of(entry: &redis::streams::StreamId) -> Option<LastRun> {
    let field = |name: &str| entry.get::<String>(name).unwrap_or_default();
    let (kind, message) = (field("kind"), field("message"));
    let parts = parts(&kind, &message, entry.get::<String>(MORE).as_deref());
    parts.iter().find_map(|Part { kind, message, own }| {
        let at_ms = own.as_ref().and_then(|own| own.at_ms);
        let ts = at_ms.map_or_else(|| field("ts"), iso8601);
        match &**kind {
            "error" => Some(LastRun::Failed(format!("{ts} {message}"))),
            "response" => Some(LastRun::Answered(ts)),
            _ => None,
        }
    })
}

/// How a run has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LastRun {
    /// With an answer, and when.
    Answered(String),
    /// When and why.
    Failed(String),
}

/// Several things at a time, in order.
pub async fn all<T>(checks: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    futures::stream::iter(checks).buffered(8).collect().await
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::super::finding::State;
    use super::*;

    #[test]
    fn the_end_of_a_run_is_found_wherever_it_stands_in_an_entry() {
        let entry = |fields: &[(&str, &str)]| {
            let value = |text: &str| redis::Value::BulkString(text.as_bytes().to_vec());
            let map = fields.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect();
            redis::streams::StreamId { id: "1-1".into(), map, ..Default::default() }
        };
        let ts = ("ts", "2026-10-30T12:00:00.123Z");
        let more = r#"[{},{"at_ms":7,"kind":"response"},{"kind":"usage"}]"#;
        let shared =
            entry(&[ts, ("kind", "context"), ("message", "GET /\na.b ok\n200\nused"), ("more", more)]);
        assert_eq!(end_of(&shared), Some(LastRun::Answered("1970-01-01T00:00:00.007Z".into())));
        let failed = entry(&[ts, ("kind", "error"), ("message", "it trapped")]);
        assert_eq!(end_of(&failed), Some(LastRun::Failed("2026-10-30T12:00:00.123Z it trapped".into())));
        assert_eq!(end_of(&entry(&[ts, ("kind", "log"), ("message", "a line")])), None);
    }

    async fn closed() -> u16 {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
    }

    async fn saying(line: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(line.as_bytes()).await.unwrap();
        });
        port
    }

    async fn nats_on(port: u16) -> Vec<(&'static str, State)> {
        let around = Surroundings { nats_url: format!("nats://127.0.0.1:{port}"), ..Surroundings::default() };
        nats(&around).await.iter().map(|finding| (finding.code, finding.state)).collect()
    }

    #[tokio::test]
    async fn a_nats_that_nobody_runs_is_wrong_with_what_to_do() {
        let port = closed().await;
        let around = Surroundings { nats_url: format!("nats://127.0.0.1:{port}"), ..Surroundings::default() };
        let findings = nats(&around).await;
        assert_eq!((findings.len(), findings[0].code), (1, "nats_unreachable"));
        assert!(findings[0].message.contains(&port.to_string()) && findings[0].hint.is_some());
    }

    #[tokio::test]
    async fn another_server_on_the_port_an_old_one_and_one_without_jetstream_are_told_apart() {
        let other = saying("HTTP/1.1 400 Bad Request\r\n").await;
        assert_eq!(nats_on(other).await, [("nats_unreachable", State::Wrong)]);
        let old = saying("INFO {\"version\":\"2.9.1\",\"jetstream\":true}\r\n").await;
        assert_eq!(nats_on(old).await[..2], [("nats_version", State::Wrong), ("ok", State::Ok)]);
        let without = saying("INFO {\"version\":\"2.12.3\"}\r\n").await;
        assert_eq!(nats_on(without).await[..2], [("ok", State::Ok), ("jetstream_off", State::Wrong)]);
    }

    #[tokio::test]
    async fn a_redis_that_nobody_runs_is_wrong_and_none_at_all_is_skipped() {
        let url = format!("redis://127.0.0.1:{}", closed().await);
        let around = Surroundings {
            redis_url: Some(longshore_service::config::Secret::new(url)),
            ..Surroundings::default()
        };
        assert_eq!(redis(&around).await.code, "redis_unreachable");
        assert_eq!(redis(&Surroundings::default()).await.state, State::Skipped);
        assert_eq!(judge_redis("# Server\r\nredis_version:6.2.1\r\n").code, "redis_version");
        assert_eq!(judge_redis("redis_version:7.4.0\r\n").state, State::Ok);
    }

    #[tokio::test]
    async fn a_port_that_somebody_has_is_named_with_its_variable() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wanted = Wanted {
            port: taken.local_addr().unwrap().port(),
            what: "the gateway",
            variable: "RUNNER_DOCKER_PORT",
        };
        let number = wanted.port.to_string();
        let named = PORTS[0].of(|name| (name == "RUNNER_DOCKER_PORT").then(|| number.clone()));
        assert_eq!(named.port, wanted.port, "the port that somebody has named is looked at");
        assert_eq!(PORTS[0].of(|_| Some("none".to_owned())).port, 8085);
        let finding = port(wanted).await;
        assert_eq!(finding.code, "port_in_use");
        assert!(finding.hint.unwrap().contains("RUNNER_DOCKER_PORT"));
        let free = Wanted { port: closed().await, ..named };
        assert_eq!(port(free).await.state, State::Ok);
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("nats-server"), "").unwrap();
        let codes: Vec<_> = programs(&[dir.path().to_owned()]).iter().map(|finding| finding.code).collect();
        assert_eq!(codes, ["ok", "program_missing"]);
    }
}
