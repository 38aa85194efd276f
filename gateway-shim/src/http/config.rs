//! Settings of the HTTP side.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;

use longshore_service::config::{ByteSize, ConfigErrors, Seconds, Secret, ServiceTokens};

use super::execute::MAX_JSON_BYTES;

longshore_service::setting_enum! {
    /// Whether `x-runner-service-token` is checked on `/v1/execute`.
    pub enum ExecuteAuth {
        /// Checked when it is sent: two of the three existing callers send none.
        IfSent = "if-sent",
        /// Refused without it.
        Require = "require",
        /// Never looked at.
        Off = "off",
    }
}

longshore_service::settings! {
    /// The HTTP side of the gateway: where it listens and what callers may use up.
    pub struct HttpConfig, group "Gateway HTTP", validate check {
        /// The port on which calls are taken, on every address of the machine.
        pub port: u16 = "8080", env "PORT";
        /// The address and port on which calls are taken, instead of `PORT`, such as `127.0.0.1:8085`.
        pub listen: Option<SocketAddr>, env "LONGSHORE_HTTP_ADDR";
        /// What callers present as `x-runner-service-token`.
        pub token: Option<Secret>, env "RUNNER_SERVICE_TOKEN", file "RUNNER_SERVICE_TOKEN_FILE";
        /// During a rotation: the former token, which stays valid until this is unset. A rotation sets the new token above and the old one here,
        /// then tells callers the new one, then unsets this.
        pub previous_token: Option<Secret>, env "RUNNER_SERVICE_TOKEN_PREVIOUS", file "RUNNER_SERVICE_TOKEN_PREVIOUS_FILE";
        /// Whether that token is checked: `if-sent`, `require` (use it in production where all callers send it) or `off`. Without a token set,
        /// `if-sent` checks nothing.
        pub auth: ExecuteAuth = "if-sent", env "LONGSHORE_EXECUTE_AUTH";
        /// Open connections; one above is answered 503 and closed.
        pub max_connections: NonZeroUsize = "4096", env "LONGSHORE_HTTP_MAX_CONNECTIONS";
        /// Bytes of all request and response bodies that this process holds at a time. One tenant gets a quarter. Above it, calls wait for a second and
        /// are then answered `overloaded`.
        pub body_bytes: ByteSize = "256MiB", env "LONGSHORE_HTTP_BODY_BYTES";
        /// How long a request's header may take to arrive.
        pub header_timeout: Seconds = "10", env "LONGSHORE_HTTP_HEADER_TIMEOUT";
        /// How long a request body may stand still, and how long a caller may read nothing of its answer.
        pub body_idle_timeout: Seconds = "30", env "LONGSHORE_HTTP_BODY_IDLE_TIMEOUT";
        /// How long a connection is kept without a request. Longer than the callers keep it (Node 4 s, Go 90 s), so that it is the caller who closes and
        /// no request meets a closing connection.
        pub idle_timeout: Seconds = "120", env "LONGSHORE_HTTP_IDLE_TIMEOUT";
        /// How long, after the signal to stop, new connections are still served, with `connection: close`, so that load balancers notice.
        pub drain_delay: Seconds = "3", env "LONGSHORE_HTTP_DRAIN_DELAY";
    }
}

impl HttpConfig {
    /// Where to listen.
    pub fn address(&self) -> SocketAddr {
        self.listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, self.port)))
    }

    /// The service tokens that are valid; `None` without one.
    pub fn tokens(&self) -> Option<ServiceTokens> {
        ServiceTokens::new(self.token.clone(), self.previous_token.clone())
    }
}

fn check(config: &HttpConfig, errors: &mut ConfigErrors) {
    if config.auth == ExecuteAuth::Require && config.token.is_none() {
        errors.other(
            "LONGSHORE_EXECUTE_AUTH=require needs RUNNER_SERVICE_TOKEN: set the token that callers send",
        );
    }
    ServiceTokens::check(
        "RUNNER_SERVICE_TOKEN",
        config.token.as_ref(),
        config.previous_token.as_ref(),
        errors,
    );
    // A tenant gets a quarter, and one request of the largest size must fit into it.
    let least = 4 * MAX_JSON_BYTES as u64 + 4 * super::budget::REQUEST_COST as u64;
    if config.body_bytes.bytes() < least {
        errors.invalid(
            "LONGSHORE_HTTP_BODY_BYTES",
            config.body_bytes,
            format!("at least {least}: a quarter must hold the largest request"),
        );
    }
    let zero = [
        ("LONGSHORE_HTTP_HEADER_TIMEOUT", config.header_timeout),
        ("LONGSHORE_HTTP_BODY_IDLE_TIMEOUT", config.body_idle_timeout),
        ("LONGSHORE_HTTP_IDLE_TIMEOUT", config.idle_timeout),
    ];
    for (name, _) in zero.iter().filter(|(_, value)| value.get().is_zero()) {
        errors.invalid(*name, 0, "more than 0");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn load(pairs: &[(&str, &str)]) -> Result<HttpConfig, String> {
        let env: BTreeMap<String, String> =
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        HttpConfig::load(&env, ["shim".to_owned()]).map_err(|e| e.to_string())
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let config = load(&[]).unwrap();
        assert_eq!(config.address().to_string(), "0.0.0.0:8080");
        let listen = [("LONGSHORE_HTTP_ADDR", "127.0.0.1:8085"), ("PORT", "1")];
        assert_eq!(load(&listen).unwrap().address().to_string(), "127.0.0.1:8085");
        assert_eq!(config.auth, ExecuteAuth::IfSent);
        assert_eq!(config.body_bytes.bytes(), 256 << 20);
    }

    #[test]
    fn requiring_a_token_without_one_does_not_start() {
        assert!(load(&[("LONGSHORE_EXECUTE_AUTH", "require")]).unwrap_err().contains("RUNNER_SERVICE_TOKEN"));
        load(&[("LONGSHORE_EXECUTE_AUTH", "require"), ("RUNNER_SERVICE_TOKEN", "t")]).unwrap();
    }

    #[test]
    fn a_former_token_without_the_one_that_follows_it_does_not_start() {
        let error = load(&[("RUNNER_SERVICE_TOKEN_PREVIOUS", "t")]).unwrap_err();
        assert!(
            error.contains("RUNNER_SERVICE_TOKEN_PREVIOUS is set without RUNNER_SERVICE_TOKEN"),
            "{error}"
        );
        assert!(load(&[]).unwrap().tokens().is_none());
    }

    #[test]
    fn a_budget_that_no_request_fits_and_a_timeout_of_nothing_are_refused_together() {
        let error = load(&[("LONGSHORE_HTTP_BODY_BYTES", "16MiB"), ("LONGSHORE_HTTP_HEADER_TIMEOUT", "0")])
            .unwrap_err();
        assert!(error.contains("LONGSHORE_HTTP_BODY_BYTES"), "{error}");
        assert!(error.contains("LONGSHORE_HTTP_HEADER_TIMEOUT"), "{error}");
    }
}
