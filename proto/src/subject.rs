//! Subjects, built and checked in one place. Every token in them is a validated id or hex digits, so none can hold a
//! dot, a wildcard or white space.

use crate::ids::{BootId, PoolName, Token};

/// Prefix of every shim's inbox.
pub const SHIM_INBOX: &str = "_R.shim.";
/// Prefix of every worker's inbox.
pub const WORKER_INBOX: &str = "_R.worker.";
/// Prefix of the inbox of a NATS client that calls without a shim.
pub const CALLER_INBOX: &str = "_R.caller.";
/// All announcements.
pub const FLEET: &str = "fleet.>";
/// The queue group in which workers share `exec.<pool>`.
pub const WORKERS_GROUP: &str = "workers";

/// A call for one worker.
pub fn exec(pool: &PoolName, worker: BootId) -> String {
    format!("exec.{pool}.{worker}")
}

/// A call for any worker of the pool, for clients without a shim.
pub fn exec_any(pool: &PoolName) -> String {
    format!("exec.{pool}")
}

/// Questions and cancels for one worker.
pub fn control(pool: &PoolName, worker: BootId) -> String {
    format!("ctl.{pool}.{worker}")
}

/// What all workers of a pool hear: [`crate::fleet::ToWorkers`].
pub fn control_all(pool: &PoolName) -> String {
    format!("ctl.{pool}.all")
}

/// What all shims hear: [`crate::fleet::ToShims`].
pub const CONTROL_SHIMS: &str = "ctl.shim.all";

/// Prefix of the inbox of the admin service.
pub const ADMIN_INBOX: &str = "_R.admin.";

/// A worker's announcements.
pub fn fleet_worker(pool: &PoolName, worker: BootId) -> String {
    format!("fleet.{pool}.{worker}")
}

/// A shim's announcements.
pub fn fleet_shim(shim: BootId) -> String {
    format!("fleet.shim.{shim}")
}

/// Workers of this pool with slots and nobody to offer them to.
pub fn free(pool: &PoolName) -> String {
    format!("free.{pool}")
}

/// All pools' [`free`].
pub const FREE_ALL: &str = "free.>";

/// What a shim's reply multiplexer subscribes.
pub fn shim_inbox_all(shim: BootId) -> String {
    format!("{SHIM_INBOX}{shim}.*")
}

/// One reply subject of a shim.
pub fn shim_inbox(shim: BootId, token: Token) -> String {
    format!("{SHIM_INBOX}{shim}.{token}")
}

/// What a worker's reply multiplexer subscribes.
pub fn worker_inbox_all(worker: BootId) -> String {
    format!("{WORKER_INBOX}{worker}.*")
}

/// One reply subject of a worker.
pub fn worker_inbox(worker: BootId, token: Token) -> String {
    format!("{WORKER_INBOX}{worker}.{token}")
}

/// The token at the end of an inbox subject, if it has the form that this module builds.
pub fn inbox_token(subject: &str) -> Option<Token> {
    subject.rsplit_once('.')?.1.parse().ok()
}

/// Whether a subject that somebody else sent lies under `prefix` and is a plain subject: a reply goes only there.
/// Otherwise a caller could have a worker publish into another's inbox, or to `fleet.>`.
pub fn is_under(subject: &str, prefix: &str) -> bool {
    subject.len() <= 256
        && subject.strip_prefix(prefix).is_some_and(|rest| {
            !rest.is_empty()
                && rest.split('.').all(|token| {
                    !token.is_empty()
                        && token.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
                })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_subject_is_under_its_prefix_and_gives_back_its_token() {
        let (shim, token) = (BootId::random(), Token::random());
        let subject = shim_inbox(shim, token);
        assert!(is_under(&subject, SHIM_INBOX));
        assert_eq!(inbox_token(&subject), Some(token));
    }

    #[test]
    fn a_subject_outside_the_prefix_or_with_a_wildcard_is_refused() {
        for bad in [
            "fleet.default.x",
            "_R.shim.",
            "_R.shim.a.>",
            "_R.shim.*",
            "_R.shim.a..b",
            "_R.shim.a b",
            "_R.worker.a",
            "_R.shim.a\r\n",
        ] {
            assert!(!is_under(bad, SHIM_INBOX), "{bad}");
        }
    }
}
