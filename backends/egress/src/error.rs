//! Why a request of a guest has no answer.

use std::time::Duration;

/// An error whose type does not matter to anyone but a log.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why there is no answer, or no more of it. The texts may be shown to the guest: they name no address that was resolved.
/// The sources are for the operator's log alone.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The URL cannot be used.
    #[error("the URL {0}")]
    InvalidUrl(&'static str),
    /// A header cannot be sent.
    #[error("the request's header {0}")]
    InvalidHeader(&'static str),
    /// The policy says no. Nothing was sent.
    #[error("not allowed: {0}")]
    NotAllowed(Refusal),
    /// More bytes than the limit.
    #[error("{what} over {limit} bytes")]
    TooLarge {
        /// What is too large.
        what: Part,
        /// The limit, in bytes.
        limit: usize,
    },
    /// No connection: the name does not resolve, nobody listens, or TLS fails.
    #[error("no connection to the host: {stage}")]
    Connect {
        /// Which part of connecting failed.
        stage: Stage,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Not in time.
    #[error("{what} took longer than {} ms", .after.as_millis())]
    Timeout {
        /// What was waited for.
        what: Wait,
        /// The limit that ran out.
        after: Duration,
    },
    /// The connection broke before the head of the answer had come, or what came is no HTTP.
    #[error("the connection broke before an answer came")]
    Transport(#[source] BoxError),
    /// The answer's body broke off.
    #[error("the answer broke off")]
    Body(#[source] BoxError),
    /// The body that the guest was sending failed.
    #[error("the request's body failed")]
    RequestBody(#[source] BoxError),
}

/// What was refused, in the order in which it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// CONNECT or TRACE.
    Method,
    /// Neither `http` nor `https`.
    Scheme,
    /// A user or a password in the URL.
    Userinfo,
    /// Port 0.
    Port0,
    /// The operator's list is empty, which denies everything.
    EmptyList,
    /// The operator's list does not have it.
    NotInOperatorList,
    /// The install's list does not have it.
    NotInInstallList,
    /// Not on the public internet.
    PrivateAddress,
}

impl Refusal {
    /// All of them, for counters.
    pub const ALL: [Self; 8] = [
        Self::Method,
        Self::Scheme,
        Self::Userinfo,
        Self::Port0,
        Self::EmptyList,
        Self::NotInOperatorList,
        Self::NotInInstallList,
        Self::PrivateAddress,
    ];

    /// A short code for events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Scheme => "scheme",
            Self::Userinfo => "userinfo",
            Self::Port0 => "port_0",
            Self::EmptyList => "empty_list",
            Self::NotInOperatorList => "not_in_operator_list",
            Self::NotInInstallList => "not_in_install_list",
            Self::PrivateAddress => "private_address",
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Method => "CONNECT and TRACE are not sent",
            Self::Scheme => "only http and https are sent",
            Self::Userinfo => "a URL must not carry a user or a password",
            Self::Port0 => "there is no port 0",
            Self::EmptyList => "the operator allows no host",
            Self::NotInOperatorList => "the operator's list does not have this host",
            Self::NotInInstallList => "the install's list does not have this host",
            Self::PrivateAddress => "the host is not on the public internet",
        })
    }
}

/// A part of an exchange that has a size limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// URL and headers of the request.
    RequestHeaders,
    /// The body of the request.
    RequestBody,
    /// The headers of the answer.
    ResponseHeaders,
    /// The body of the answer.
    ResponseBody,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::RequestHeaders => "the request's headers are",
            Self::RequestBody => "the request's body is",
            Self::ResponseHeaders => "the answer's headers are",
            Self::ResponseBody => "the answer's body is",
        })
    }
}

/// A step on the way to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Name resolution.
    Resolve,
    /// TCP.
    Tcp,
    /// TLS, the certificate included.
    Tls,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Resolve => "its name does not resolve",
            Self::Tcp => "it does not accept",
            Self::Tls => "TLS failed",
        })
    }
}

/// What a timeout was waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// A connection of the tenant's to become free.
    Slot,
    /// Name resolution, TCP and TLS.
    Connect,
    /// The head of the answer.
    FirstByte,
    /// More of the body.
    BetweenBytes,
    /// The whole exchange.
    Total,
}

impl std::fmt::Display for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Slot => "waiting for one of the tenant's connections",
            Self::Connect => "connecting",
            Self::FirstByte => "the first byte of the answer",
            Self::BetweenBytes => "a pause in the answer",
            Self::Total => "the exchange",
        })
    }
}

/// The `http-error` of the guest ABI (interop 1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpErrorKind {
    /// `invalid-url`
    InvalidUrl,
    /// `not-allowed`
    NotAllowed,
    /// `transport`
    Transport,
    /// `internal`
    Internal,
}

impl EgressError {
    /// What a guest of `http.fetch` gets (interop 1.3): a bad header, a failed connection and a timeout are `transport`,
    /// a failure while the body is read is `internal`. What the worker's own limits refuse to send is `not-allowed`.
    pub const fn http_error(&self) -> HttpErrorKind {
        match self {
            Self::InvalidUrl(_) => HttpErrorKind::InvalidUrl,
            Self::NotAllowed(_) | Self::TooLarge { what: Part::RequestHeaders | Part::RequestBody, .. } => {
                HttpErrorKind::NotAllowed
            }
            Self::InvalidHeader(_)
            | Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::Transport(_)
            | Self::RequestBody(_)
            | Self::TooLarge { what: Part::ResponseHeaders, .. } => HttpErrorKind::Transport,
            Self::Body(_) | Self::TooLarge { what: Part::ResponseBody, .. } => HttpErrorKind::Internal,
        }
    }
}

/// Why egress cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum EgressSetupError {
    /// The machine's root certificates cannot be read.
    #[error("the system's root certificates cannot be read")]
    Roots(#[source] std::io::Error),
    /// The TLS library refuses its own defaults.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_become_what_interop_1_3_says() {
        let io = || std::io::Error::other("x");
        for (error, kind) in [
            (EgressError::InvalidUrl("is not one"), HttpErrorKind::InvalidUrl),
            (EgressError::InvalidHeader("is not one"), HttpErrorKind::Transport),
            (EgressError::NotAllowed(Refusal::Userinfo), HttpErrorKind::NotAllowed),
            (EgressError::TooLarge { what: Part::RequestBody, limit: 1 }, HttpErrorKind::NotAllowed),
            (EgressError::TooLarge { what: Part::ResponseHeaders, limit: 1 }, HttpErrorKind::Transport),
            (EgressError::TooLarge { what: Part::ResponseBody, limit: 1 }, HttpErrorKind::Internal),
            (EgressError::Connect { stage: Stage::Tls, source: io() }, HttpErrorKind::Transport),
            (EgressError::Timeout { what: Wait::Total, after: Duration::ZERO }, HttpErrorKind::Transport),
            (EgressError::Transport(io().into()), HttpErrorKind::Transport),
            (EgressError::Body(io().into()), HttpErrorKind::Internal),
        ] {
            assert_eq!(error.http_error(), kind, "{error}");
        }
    }

    #[test]
    fn every_refusal_has_its_own_code() {
        let codes: std::collections::HashSet<_> = Refusal::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(codes.len(), Refusal::ALL.len());
    }
}
