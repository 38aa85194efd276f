//! Settings of `/api/ext`.

use std::net::SocketAddr;
use std::num::NonZeroU32;

use http::HeaderName;
use longshore_proto::TenantId;
use longshore_proto::limits::{MAX_BODY_BYTES, MAX_TIMEOUT_MS};
use longshore_service::config::{ByteSize, ConfigErrors, Millis};

use super::cors::Cors;
use super::headers::{self, Allowed};

longshore_service::settings! {
    /// Calls by browsers and API clients: `/api/ext/{extension}/{path}`.
    pub struct GatewayConfig, group "Gateway route", validate check {
        /// How long a call may take, body and waiting included, unless its install allows less. At most 5 minutes.
        pub timeout: Millis = "30000", env "EXT_GATEWAY_TIMEOUT_MS";
        /// The largest request body; a larger one is answered 413. At most 16 MiB.
        pub max_body: ByteSize = "10MiB", env "LONGSHORE_GATEWAY_MAX_BODY";
        /// Whether a call must match an endpoint of the bundle's manifest. `false` lets every path of an install be called: for bundles
        /// that declare none.
        pub enforce_endpoints: bool = "true", env "LONGSHORE_GATEWAY_ENFORCE_ENDPOINTS";
        /// Calls a second of one tenant to one extension, in the long run, through this gateway; 0: as many as come.
        pub rate: u32 = "100", env "LONGSHORE_GATEWAY_RATE";
        /// Calls of one tenant to one extension that may come at once before that rate holds.
        pub burst: NonZeroU32 = "200", env "LONGSHORE_GATEWAY_BURST";
        /// Origins whose pages may call, such as `https://app.example.com`, or `*` for all. Unset: only pages of this gateway's own origin.
        /// Credentials of the browser (cookies) are never allowed; a page sends a bearer token.
        pub cors_origins: Vec<String>, env "LONGSHORE_GATEWAY_CORS_ORIGINS";
        /// Request headers that extensions get besides the usual ones. Credentials and what proxies add cannot be among them.
        pub request_headers: Vec<String>, env "LONGSHORE_GATEWAY_REQUEST_HEADERS";
        /// Headers of extensions' answers that callers get besides the usual ones. Cookies, redirects and what belongs to the connection or the
        /// origin cannot be among them.
        pub response_headers: Vec<String>, env "LONGSHORE_GATEWAY_RESPONSE_HEADERS";
        /// Development only: calls from this machine without a token are this tenant's. Needs a loopback `LONGSHORE_HTTP_ADDR`.
        pub dev_tenant: Option<String>, env "LONGSHORE_DEV_TENANT";
    }
}

impl GatewayConfig {
    /// The tenant of calls without a token.
    pub fn dev_tenant(&self) -> Option<TenantId> {
        self.dev_tenant.as_deref()?.parse().ok()
    }

    /// What may be called from where.
    pub(crate) fn cors(&self) -> Cors {
        // Checked when the settings were read.
        Cors::parse(&self.cors_origins, self.allowed_request().names()).unwrap_or_default()
    }

    /// What extensions get of a request's header.
    pub(crate) fn allowed_request(&self) -> Allowed {
        Allowed::new(&headers::REQUEST, &names(&self.request_headers))
    }

    /// What callers get of an answer's header.
    pub(crate) fn allowed_response(&self) -> Allowed {
        Allowed::new(&headers::RESPONSE, &names(&self.response_headers))
    }

    /// Reports a development tenant on a listener that others reach.
    pub fn check_listener(&self, listener: SocketAddr, errors: &mut ConfigErrors) {
        if self.dev_tenant.is_some() && !listener.ip().is_loopback() {
            errors.other(format!(
                "LONGSHORE_DEV_TENANT lets calls without a token in, but the gateway would listen on {listener}, which other machines reach: \
                 set LONGSHORE_HTTP_ADDR=127.0.0.1:{}, or unset LONGSHORE_DEV_TENANT and use tokens",
                listener.port()
            ));
        }
    }
}

fn names(list: &[String]) -> Vec<HeaderName> {
    list.iter().filter_map(|name| name.parse().ok()).collect()
}

fn check(config: &GatewayConfig, errors: &mut ConfigErrors) {
    let timeout = config.timeout.get().as_millis();
    if timeout == 0 || timeout > u128::from(MAX_TIMEOUT_MS) {
        errors.invalid("EXT_GATEWAY_TIMEOUT_MS", timeout, format!("1 to {MAX_TIMEOUT_MS}"));
    }
    if config.max_body.bytes() > MAX_BODY_BYTES {
        errors.invalid("LONGSHORE_GATEWAY_MAX_BODY", config.max_body, format!("at most {MAX_BODY_BYTES}"));
    }
    if let Err(error) = Cors::parse(&config.cors_origins, &[]) {
        errors.other(format!("LONGSHORE_GATEWAY_CORS_ORIGINS: {error}"));
    }
    for name in &config.request_headers {
        if let Some(why) = headers::refused_request(name) {
            errors.invalid("LONGSHORE_GATEWAY_REQUEST_HEADERS", name, why);
        }
    }
    for name in &config.response_headers {
        if let Some(why) = headers::refused_response(name) {
            errors.invalid("LONGSHORE_GATEWAY_RESPONSE_HEADERS", name, why);
        }
    }
    if let Some(tenant) = &config.dev_tenant
        && tenant.parse::<TenantId>().is_err()
    {
        errors.invalid("LONGSHORE_DEV_TENANT", tenant, "a tenant id: 1 to 128 of A-Z a-z 0-9 . _ -");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn load(pairs: &[(&str, &str)]) -> Result<GatewayConfig, String> {
        let env: BTreeMap<String, String> =
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        GatewayConfig::load(&env, ["shim".to_owned()]).map_err(|e| e.to_string())
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let config = load(&[]).unwrap();
        assert_eq!((config.timeout.get().as_millis(), config.max_body.bytes()), (30_000, 10 << 20));
        assert!(config.enforce_endpoints && config.dev_tenant().is_none());
        assert_eq!((config.rate, config.burst.get()), (100, 200));
        assert_eq!(load(&[("EXT_GATEWAY_TIMEOUT_MS", "5000")]).unwrap().timeout.get().as_secs(), 5);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        for (name, value) in [
            ("EXT_GATEWAY_TIMEOUT_MS", "0"),
            ("EXT_GATEWAY_TIMEOUT_MS", "300001"),
            ("LONGSHORE_GATEWAY_MAX_BODY", "17MiB"),
            ("LONGSHORE_GATEWAY_CORS_ORIGINS", "app.example.com"),
            ("LONGSHORE_GATEWAY_CORS_ORIGINS", "https://a.example/path"),
            ("LONGSHORE_GATEWAY_REQUEST_HEADERS", "x-mine,Cookie"),
            ("LONGSHORE_GATEWAY_REQUEST_HEADERS", "authorization"),
            ("LONGSHORE_GATEWAY_REQUEST_HEADERS", "X-Forwarded-For"),
            ("LONGSHORE_GATEWAY_REQUEST_HEADERS", "x-runner-auth"),
            ("LONGSHORE_GATEWAY_REQUEST_HEADERS", "x-api-key"),
            ("LONGSHORE_GATEWAY_REQUEST_HEADERS", "no header"),
            ("LONGSHORE_GATEWAY_RESPONSE_HEADERS", "set-cookie"),
            ("LONGSHORE_GATEWAY_RESPONSE_HEADERS", "location"),
            ("LONGSHORE_DEV_TENANT", "a b"),
        ] {
            let error = load(&[(name, value)]).unwrap_err();
            assert!(error.contains(name), "{name}={value}: {error}");
        }
    }

    #[test]
    fn a_development_tenant_needs_a_loopback_listener() {
        let config = load(&[("LONGSHORE_DEV_TENANT", "t")]).unwrap();
        for (listener, good) in [("127.0.0.1:8085", true), ("[::1]:1", true), ("0.0.0.0:8080", false)] {
            let mut errors = ConfigErrors::default();
            config.check_listener(listener.parse().unwrap(), &mut errors);
            assert_eq!(errors.is_empty(), good, "{listener}");
        }
    }
}
