//! What can go wrong, and what a guest is told of it.

use std::time::Duration;

use longshore_service::upstream::UpstreamError;

use crate::Problem;

/// Why an operation has no result.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// The install id cannot be part of a request. Nothing was sent.
    #[error("the install id {0}")]
    InstallId(&'static str),
    /// An argument is outside its limits. Nothing was sent.
    #[error("{field} {rule}")]
    Invalid {
        /// The argument, named as on the wire.
        field: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// 401: the platform does not know the token.
    #[error("the platform does not accept the token: {0}")]
    Unauthorized(Problem),
    /// 403.
    #[error("the platform forbids it: {0}")]
    Forbidden(Problem),
    /// 400.
    #[error("the platform refuses the request: {0}")]
    BadRequest(Problem),
    /// 404; also a record to be deleted that is not there.
    #[error("the platform does not have it: {0}")]
    NotFound(Problem),
    /// 409: another revision is stored.
    #[error("the platform has another revision: {0}")]
    Conflict(Problem),
    /// 429: a rate or a quota.
    #[error("the platform's rate or quota is used up: {0}")]
    RateLimited(Problem),
    /// Any other status that is no success.
    #[error("the platform answered {status}: {problem}")]
    Status {
        /// The status.
        status: u16,
        /// What the answer said.
        problem: Problem,
    },
    /// 3xx: not followed, the token would go with it.
    #[error("the platform answered with a redirect ({0}), which is not followed")]
    Redirect(u16),
    /// No whole answer in time.
    #[error("the platform gave no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// No connection, or it broke.
    #[error("the platform cannot be reached")]
    Transport(#[source] UpstreamError),
    /// A success whose body is not what it must be. The body is not quoted: it is a tenant's data.
    #[error("the platform's answer is malformed: {0}")]
    Malformed(&'static str),
    /// The answer is over the limit.
    #[error("the platform's answer is over {limit} bytes")]
    TooLarge {
        /// Bytes allowed.
        limit: usize,
    },
}

impl PlatformError {
    /// The answer's status; absent when there was no answer, or one of the right status with a wrong body.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Unauthorized(_) => Some(401),
            Self::Forbidden(_) => Some(403),
            Self::BadRequest(_) => Some(400),
            Self::NotFound(_) => Some(404),
            Self::Conflict(_) => Some(409),
            Self::RateLimited(_) => Some(429),
            Self::Status { status, .. } | Self::Redirect(status) => Some(*status),
            Self::InstallId(_)
            | Self::Invalid { .. }
            | Self::Timeout(_)
            | Self::Transport(_)
            | Self::Malformed(_)
            | Self::TooLarge { .. } => None,
        }
    }

    /// What the answer said, if there was an error answer.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Unauthorized(problem)
            | Self::Forbidden(problem)
            | Self::BadRequest(problem)
            | Self::NotFound(problem)
            | Self::Conflict(problem)
            | Self::RateLimited(problem)
            | Self::Status { problem, .. } => Some(problem),
            Self::InstallId(_)
            | Self::Invalid { .. }
            | Self::Redirect(_)
            | Self::Timeout(_)
            | Self::Transport(_)
            | Self::Malformed(_)
            | Self::TooLarge { .. } => None,
        }
    }

    pub(crate) fn of_status(status: u16, problem: Problem) -> Self {
        match status {
            300..=399 => Self::Redirect(status),
            400 => Self::BadRequest(problem),
            401 => Self::Unauthorized(problem),
            403 => Self::Forbidden(problem),
            404 => Self::NotFound(problem),
            409 => Self::Conflict(problem),
            429 => Self::RateLimited(problem),
            _ => Self::Status { status, problem },
        }
    }

    /// The `error` of the results that carry one. The platform's own words where the request was at fault; of what is between
    /// the operator's machines (token, 5xx, network) only which of them it was, in the words that guests know from the
    /// platform's runner (interop 6.3).
    pub(crate) fn guest_text(&self) -> String {
        match self {
            Self::BadRequest(problem)
            | Self::Forbidden(problem)
            | Self::NotFound(problem)
            | Self::Conflict(problem)
            | Self::RateLimited(problem)
                if !problem.message.is_empty() =>
            {
                problem.message.clone()
            }
            Self::InstallId(_) | Self::Invalid { .. } => self.to_string(),
            Self::Redirect(_) | Self::Timeout(_) | Self::Transport(_) => "transport failure".to_owned(),
            Self::Malformed(_) | Self::TooLarge { .. } => "malformed answer".to_owned(),
            Self::Unauthorized(_) => "http 401".to_owned(),
            Self::Forbidden(_) => "http 403".to_owned(),
            Self::BadRequest(_) => "http 400".to_owned(),
            Self::NotFound(_) => "http 404".to_owned(),
            Self::Conflict(_) => "http 409".to_owned(),
            Self::RateLimited(_) => "http 429".to_owned(),
            Self::Status { status, .. } => format!("http {status}"),
        }
    }

    /// The `field-errors` of the results that carry them.
    pub(crate) fn guest_field_errors(&self) -> Option<String> {
        match self {
            Self::BadRequest(problem) | Self::NotFound(problem) | Self::Conflict(problem) => {
                problem.field_errors.clone()
            }
            Self::Invalid { field, rule } => Some(serde_json::json!({ *field: rule }).to_string()),
            _ => None,
        }
    }
}

/// `storage-error` of the guest interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageFault {
    /// No such record.
    Missing,
    /// Another revision is stored.
    Conflict,
    /// Not allowed, or over a rate or quota.
    Denied,
    /// Everything else.
    Internal,
}

impl From<&PlatformError> for StorageFault {
    fn from(error: &PlatformError) -> Self {
        match error {
            PlatformError::InstallId(_)
            | PlatformError::Unauthorized(_)
            | PlatformError::Forbidden(_)
            | PlatformError::RateLimited(_) => Self::Denied,
            PlatformError::NotFound(_) => Self::Missing,
            PlatformError::Conflict(_) => Self::Conflict,
            // The interface has no word for a refused argument.
            PlatformError::Invalid { .. }
            | PlatformError::BadRequest(_)
            | PlatformError::Status { .. }
            | PlatformError::Redirect(_)
            | PlatformError::Timeout(_)
            | PlatformError::Transport(_)
            | PlatformError::Malformed(_)
            | PlatformError::TooLarge { .. } => Self::Internal,
        }
    }
}

/// `scheduler-error` of the guest interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchedulerFault {
    /// No such schedule or install.
    NotFound,
    /// An argument is refused.
    ValidationFailed,
    /// Over a rate or quota.
    QuotaExceeded,
    /// Not allowed.
    Denied,
    /// Everything else.
    Internal,
}

impl From<&PlatformError> for SchedulerFault {
    fn from(error: &PlatformError) -> Self {
        match error {
            PlatformError::InstallId(_) | PlatformError::Unauthorized(_) | PlatformError::Forbidden(_) => {
                Self::Denied
            }
            PlatformError::NotFound(_) => Self::NotFound,
            PlatformError::Invalid { .. } | PlatformError::BadRequest(_) => Self::ValidationFailed,
            PlatformError::RateLimited(_) => Self::QuotaExceeded,
            PlatformError::Conflict(_)
            | PlatformError::Status { .. }
            | PlatformError::Redirect(_)
            | PlatformError::Timeout(_)
            | PlatformError::Transport(_)
            | PlatformError::Malformed(_)
            | PlatformError::TooLarge { .. } => Self::Internal,
        }
    }
}

/// `client-read-error` and `service-read-error` of the guest interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFault {
    /// Neither the install nor the user may.
    NotAllowed,
    /// An argument is refused.
    InvalidInput,
    /// Everything else, 404 of an unknown install too.
    Internal,
}

impl From<&PlatformError> for ReadFault {
    fn from(error: &PlatformError) -> Self {
        match error {
            PlatformError::InstallId(_) | PlatformError::Unauthorized(_) | PlatformError::Forbidden(_) => {
                Self::NotAllowed
            }
            PlatformError::Invalid { .. } | PlatformError::BadRequest(_) => Self::InvalidInput,
            PlatformError::NotFound(_)
            | PlatformError::Conflict(_)
            | PlatformError::RateLimited(_)
            | PlatformError::Status { .. }
            | PlatformError::Redirect(_)
            | PlatformError::Timeout(_)
            | PlatformError::Transport(_)
            | PlatformError::Malformed(_)
            | PlatformError::TooLarge { .. } => Self::Internal,
        }
    }
}

impl From<UpstreamError> for PlatformError {
    fn from(error: UpstreamError) -> Self {
        match error {
            UpstreamError::Timeout(limit) => Self::Timeout(limit),
            UpstreamError::TooLarge { limit } => Self::TooLarge { limit },
            other => Self::Transport(other),
        }
    }
}
