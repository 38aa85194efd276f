//! One request of a guest, from the policy to the head of its answer.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use longshore_proto::TenantId;
use tokio::time::{Instant, timeout_at};

use crate::body::{Exchange, RequestBody, ResponseBody, SentBody, Upload, full};
use crate::connect::{DialError, Dialer};
use crate::error::{EgressError, EgressSetupError, Part, Refusal, Wait};
use crate::headers::{check_size, strip_hop_by_hop, take_length};
use crate::policy::Policy;
use crate::pool::{Claim, Key, Lease, Pool};
use crate::resolve::Resolve;
use crate::rules::EgressRules;
use crate::stats::{Counters, EgressStats};
use crate::target::Target;

/// How long an idle connection is kept: shorter than the 60 s after which common servers close theirs.
const KEEP_IDLE: Duration = Duration::from_secs(30);

/// What the operator decides.
#[derive(Debug, Clone)]
pub struct EgressConfig {
    /// The operator's list.
    pub rules: EgressRules,
    /// Whether an empty list allows every public host, as the reference has it. Otherwise it allows none.
    pub allow_all_when_empty: bool,
    /// Whether addresses that are not on the public internet may be connected to. For development alone.
    pub allow_private: bool,
    /// Until a connection stands: a free permit, name resolution, TCP and TLS together.
    pub connect_timeout: Duration,
    /// The whole exchange, the answer's body included.
    pub total_timeout: Duration,
    /// Bytes of a request's body.
    pub request_bytes: usize,
    /// Bytes of an answer's body.
    pub response_bytes: usize,
    /// Bytes of the head of a request, and of an answer.
    pub header_bytes: usize,
    /// Connections of one tenant at one time, idle ones included.
    pub connections_per_tenant: usize,
}

impl Default for EgressConfig {
    /// Denies everything, and the reference's 30 s.
    fn default() -> Self {
        Self {
            rules: EgressRules::default(),
            allow_all_when_empty: false,
            allow_private: false,
            connect_timeout: Duration::from_secs(5),
            total_timeout: Duration::from_secs(30),
            request_bytes: 16 << 20,
            response_bytes: 16 << 20,
            header_bytes: 64 << 10,
            connections_per_tenant: 32,
        }
    }
}

/// On whose behalf.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// The tenant, whose connections and permits are used.
    pub tenant: &'a TenantId,
    /// The list of the install, if it has one. Both lists must allow: the narrower wins.
    pub install_rules: Option<&'a EgressRules>,
}

/// Limits of one request, beside the configuration's.
#[derive(Debug, Clone, Copy)]
pub struct SendOptions {
    /// The end of the run. Nothing goes on after it.
    pub deadline: std::time::Instant,
    /// Until a connection stands; the configuration's when that is shorter.
    pub connect_timeout: Option<Duration>,
    /// From there until the head of the answer.
    pub first_byte_timeout: Option<Duration>,
    /// Between two pieces of the answer's body.
    pub between_bytes_timeout: Option<Duration>,
}

impl SendOptions {
    /// No limit but the end of the run.
    pub const fn until(deadline: std::time::Instant) -> Self {
        Self { deadline, connect_timeout: None, first_byte_timeout: None, between_bytes_timeout: None }
    }
}

/// The way out for guests. One for a worker.
pub struct Egress {
    config: EgressConfig,
    dialer: Dialer,
    pool: Pool,
    counters: Arc<Counters>,
}

/// When an exchange has to be over.
#[derive(Clone, Copy)]
struct Clock {
    began: Instant,
    end: Instant,
}

impl Clock {
    /// The end of a step that may take `limit` from now, which is a guest's or an operator's and may be as long as they come.
    fn until(&self, limit: Duration) -> Instant {
        Instant::now().checked_add(limit).map_or(self.end, |until| until.min(self.end))
    }

    /// The error for something that was to be done `until` and is not.
    fn late(&self, what: Wait, limit: Duration, until: Instant) -> EgressError {
        if until >= self.end {
            EgressError::Timeout { what: Wait::Total, after: self.end - self.began }
        } else {
            EgressError::Timeout { what, after: limit }
        }
    }
}

/// A request that the policy has let through.
struct Ready {
    head: http::request::Parts,
    body: SentBody,
    key: Key,
}

impl Egress {
    /// Sets up TLS with the system's root certificates.
    ///
    /// # Errors
    /// [`EgressSetupError`] when there are none.
    pub fn new(config: EgressConfig, resolver: Arc<dyn Resolve>) -> Result<Self, EgressSetupError> {
        let counters = Arc::new(Counters::default());
        let dialer = Dialer::new(resolver, config.header_bytes, counters.clone())?;
        let pool = Pool::new(config.connections_per_tenant, KEEP_IDLE);
        Ok(Self { config, dialer, pool, counters })
    }

    /// Which rule applies, for the start log: `deny`, `allow all` or `allowlist`.
    pub fn mode(&self) -> &'static str {
        match (self.config.rules.is_empty(), self.config.allow_all_when_empty) {
            (false, _) => "allowlist",
            (true, true) => "allow all",
            (true, false) => "deny",
        }
    }

    /// Whether addresses off the public internet may be connected to: a development setting.
    pub const fn allows_private(&self) -> bool {
        self.config.allow_private
    }

    /// Counters for metrics.
    pub fn stats(&self) -> EgressStats {
        self.counters.read()
    }

    /// Sends a request whose URI is absolute and gives back the head of the answer, whatever its status: redirects are
    /// answers. The body is read from the answer, under the limits.
    ///
    /// # Errors
    /// Everything but an answer. After [`EgressError::NotAllowed`], `InvalidUrl` and `InvalidHeader` nothing was sent and,
    /// unless the refusal depended on the address of a listed name, nothing was resolved.
    pub async fn send(
        &self,
        who: &Who<'_>,
        request: Request<RequestBody>,
        options: SendOptions,
    ) -> Result<Response<ResponseBody>, EgressError> {
        let answer = Box::pin(self.exchange(who, request, options)).await;
        if let Err(EgressError::NotAllowed(refusal)) = &answer {
            self.counters.refused(*refusal);
        }
        answer
    }

    async fn exchange(
        &self,
        who: &Who<'_>,
        request: Request<RequestBody>,
        options: SendOptions,
    ) -> Result<Response<ResponseBody>, EgressError> {
        let began = Instant::now();
        let run = Clock { began, end: Instant::from_std(options.deadline).max(began) };
        let clock = Clock { began, end: run.until(self.config.total_timeout) };
        let policy = Policy {
            operator: &self.config.rules,
            allow_all_when_empty: self.config.allow_all_when_empty,
            install: who.install_rules,
            allow_private: self.config.allow_private,
        };
        let Ready { head, body, key } = self.prepare(&policy, request)?;
        if clock.end <= began {
            return Err(clock.late(Wait::Total, Duration::ZERO, clock.end));
        }

        let is_head = head.method == Method::HEAD;
        // Such a request can be sent again when an idle connection turns out to have been closed by the server in the
        // meantime, which no client can rule out. Any other might be carried out twice.
        let again = (matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS)
            && body.is_end_stream())
        .then(|| head.clone());
        let mut request = Request::from_parts(head, body);
        loop {
            let upload = request.body().upload();
            let (mut lease, reused) = self.connection(who, &policy, &key, &clock, &options).await?;
            match self.first_byte(&mut lease, request, &clock, &options).await {
                Ok(answer) => return self.answer(answer, is_head, lease, upload, &clock, &options),
                Err(Failed::Unsent(back)) if reused => request = *back,
                Err(Failed::Lost(error)) if reused && !error.is_parse() && !error.is_user() => match &again {
                    Some(head) => {
                        let body = SentBody::new(full(bytes::Bytes::new()), None, self.config.request_bytes)?;
                        request = Request::from_parts(head.clone(), body);
                    }
                    None => return Err(EgressError::Transport(error.into())),
                },
                Err(Failed::Unsent(_)) => {
                    return Err(EgressError::Transport("the connection closed before it was used".into()));
                }
                Err(Failed::Lost(error)) => {
                    return Err(upload.take_fault().unwrap_or_else(|| self.lost(error)));
                }
                Err(Failed::Late(error)) => return Err(error),
            }
        }
    }

    /// Everything that can be refused before a connection is looked for.
    fn prepare(&self, policy: &Policy<'_>, request: Request<RequestBody>) -> Result<Ready, EgressError> {
        let (mut head, body) = request.into_parts();
        // TRACE sends back what proxies on the way add; CONNECT makes a tunnel that no policy sees into.
        if matches!(head.method, Method::CONNECT | Method::TRACE) {
            return Err(EgressError::NotAllowed(Refusal::Method));
        }
        let target = Target::of(&head.uri)?;
        policy.admit(&target).map_err(EgressError::NotAllowed)?;

        strip_hop_by_hop(&mut head.headers);
        let announced = take_length(&mut head.headers)?;
        let host = HeaderValue::try_from(target.authority())
            .map_err(|_| EgressError::InvalidUrl("has a host that is none"))?;
        head.headers.insert(header::HOST, host);
        let path =
            head.uri.path_and_query().cloned().unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
        let line = path.as_str().len() + head.method.as_str().len();
        check_size(&head.headers, line, self.config.header_bytes, Part::RequestHeaders)?;
        head.uri = path.into();
        head.version = Version::HTTP_11;
        head.extensions = http::Extensions::new();
        let body = SentBody::new(body, announced, self.config.request_bytes)?;
        Ok(Ready { head, body, key: Key { install: policy.install.cloned(), target } })
    }

    /// A connection to the target, and whether it has been used before.
    async fn connection(
        &self,
        who: &Who<'_>,
        policy: &Policy<'_>,
        key: &Key,
        clock: &Clock,
        options: &SendOptions,
    ) -> Result<(Lease, bool), EgressError> {
        let limit = self.config.connect_timeout.min(options.connect_timeout.unwrap_or(Duration::MAX));
        let until = clock.until(limit);
        let tenant = self.pool.tenant(who.tenant);
        let (conn, reused) = match self.pool.claim(&tenant, key, until).await {
            None => return Err(clock.late(Wait::Slot, limit, until)),
            Some(Claim::Idle(conn)) => {
                self.counters.reused();
                (conn, true)
            }
            Some(Claim::New(permit)) => match self.dialer.dial(policy, &key.target, permit, until).await {
                Ok(conn) => (conn, false),
                Err(DialError::Failed(error)) => return Err(error),
                Err(DialError::Late) => return Err(clock.late(Wait::Connect, limit, until)),
            },
        };
        Ok((self.pool.lease(conn, tenant, key.clone()), reused))
    }

    async fn first_byte(
        &self,
        lease: &mut Lease,
        request: Request<SentBody>,
        clock: &Clock,
        options: &SendOptions,
    ) -> Result<Response<Incoming>, Failed> {
        let limit = options.first_byte_timeout.unwrap_or(Duration::MAX);
        let until = clock.until(limit);
        match timeout_at(until, lease.conn.sender.try_send_request(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(mut error)) => match error.take_message() {
                Some(request) => Err(Failed::Unsent(Box::new(request))),
                None => Err(Failed::Lost(error.into_error())),
            },
            Err(_) => Err(Failed::Late(clock.late(Wait::FirstByte, limit, until))),
        }
    }

    fn lost(&self, error: hyper::Error) -> EgressError {
        if error.is_parse_too_large() {
            EgressError::TooLarge { what: Part::ResponseHeaders, limit: self.config.header_bytes }
        } else {
            EgressError::Transport(error.into())
        }
    }

    fn answer(
        &self,
        answer: Response<Incoming>,
        is_head: bool,
        lease: Lease,
        upload: Arc<Upload>,
        clock: &Clock,
        options: &SendOptions,
    ) -> Result<Response<ResponseBody>, EgressError> {
        let (mut head, body) = answer.into_parts();
        // Nobody asked for another protocol.
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(EgressError::Transport("the server switched to another protocol".into()));
        }
        let limit = self.config.response_bytes;
        // An announced length is believed when it is too much, so that nothing of it need be read.
        if !is_head && body.size_hint().lower() > limit as u64 {
            return Err(EgressError::TooLarge { what: Part::ResponseBody, limit });
        }
        strip_hop_by_hop(&mut head.headers);
        head.extensions = http::Extensions::new();
        let exchange = Exchange {
            lease,
            upload,
            limit,
            end: clock.end,
            total: clock.end - clock.began,
            between_bytes: options.between_bytes_timeout,
        };
        Ok(Response::from_parts(head, ResponseBody::new(body, exchange)))
    }
}

/// Why there is no head of an answer.
enum Failed {
    /// The connection was closed before the request went out: here it is again.
    Unsent(Box<Request<SentBody>>),
    /// It may have gone out.
    Lost(hyper::Error),
    Late(EgressError),
}

impl std::fmt::Debug for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Egress").field("config", &self.config).finish_non_exhaustive()
    }
}
