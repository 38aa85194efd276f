//! Who may use the API: whoever has the admin token; and, for recorded runs and debug events of their own tenant, tokens with that right.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method};
use longshore_access::Denied;
use longshore_proto::TenantId;
use longshore_service::config::ServiceTokens;
use longshore_service::metrics::Metrics;
use longshore_service::metrics::prometheus_client::metrics::counter::Counter;
use parking_lot::Mutex;

use super::Failure;
use crate::api::ApiCode;
use crate::app::App;

/// Failures in [`WINDOW`] that are told at once; a person mistypes less often, and a program that goes on has to wait.
const FREE: u32 = 60;
/// Over which time failures are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// How long the answer to a failure above [`FREE`] is kept back.
const DELAY: Duration = Duration::from_millis(250);
/// The longest name that a caller may give itself.
const MAX_ACTOR: usize = 128;

/// What a tenant's token with the right to it may GET.
const READABLE: [&str; 5] = [
    "/v1/tenants/{tenant}/traces",
    "/v1/tenants/{tenant}/traces/{execution}",
    "/v1/tenants/{tenant}/traces/{execution}/payloads/{sha256}",
    "/v1/tenants/{tenant}/traces/{execution}/bundle",
    "/v1/tenants/{tenant}/events",
];

/// The tokens, and how often somebody was wrong. A right token is never refused for what others did.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    tokens: ServiceTokens,
    failures: Mutex<(Instant, u32)>,
    counted: Counter,
}

/// Who made a request, for the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor(pub String);

impl Gate {
    /// Behind these tokens.
    pub fn new(tokens: ServiceTokens, metrics: &Metrics) -> Self {
        Self(Arc::new(Inner {
            tokens,
            failures: Mutex::new((Instant::now(), 0)),
            counted: Self::register(metrics),
        }))
    }

    /// Registers what it counts.
    pub(super) fn register(metrics: &Metrics) -> Counter {
        let help = "Requests to the admin API with a missing or wrong token";
        metrics.register("admin_unauthorized", help, Counter::default())
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        // Two of them: a proxy and we could believe different ones.
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        bearer(value).is_some_and(|token| self.0.tokens.matches(token))
    }

    /// How many failures the window has with this one.
    fn failed(&self) -> u32 {
        self.0.counted.inc();
        let mut failures = self.0.failures.lock();
        let now = Instant::now();
        if now.saturating_duration_since(failures.0) > WINDOW {
            *failures = (now, 0);
        }
        failures.1 = failures.1.saturating_add(1);
        failures.1
    }
}

fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

/// Whose recorded runs or events a request asks for, and with which token. The tenant as it stands in the path: one that is written with
/// escapes is not taken apart here in another way than there.
fn asks_for(request: &Request) -> Option<(TenantId, HeaderValue)> {
    let route = request.extensions().get::<MatchedPath>()?.as_str();
    if request.method() != Method::GET || !READABLE.contains(&route) {
        return None;
    }
    let tenant = request.uri().path().split('/').nth(3)?.parse().ok()?;
    let mut values = request.headers().get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    Some((tenant, value.clone()))
}

/// Who the bearer of a tenant's token is. `None`: it is no token of the tenant.
async fn reader(app: &App, tenant: &TenantId, value: &HeaderValue) -> Option<Result<Actor, Failure>> {
    let token = std::str::from_utf8(bearer(value)?).ok()?;
    match app.tokens.check(tenant, token).await {
        Ok(record) if record.traces && record.extensions.is_none() => {
            Some(Ok(Actor(format!("token {} of {tenant}", record.id))))
        }
        Ok(_) => {
            let message = "the token does not read recorded runs and debug events: make one that does \
                           (`longshore token create --traces`)";
            Some(Err(Failure::new(ApiCode::Forbidden, message)))
        }
        Err(Denied::Unavailable(why)) => {
            let message = "the token cannot be checked now: NATS does not answer; try again";
            let failure = Failure::new(ApiCode::Unavailable, message);
            Some(Err(Failure { cause: Some(why), retry_after: Some(1), ..failure }))
        }
        Err(Denied::Invalid(_) | Denied::Expired) => None,
    }
}

/// Lets requests with a valid token pass.
pub(crate) async fn admit(
    State((gate, app)): State<(Gate, App)>,
    mut request: Request,
    next: Next,
) -> Response {
    if gate.knows(request.headers()) {
        let actor = actor(request.headers());
        request.extensions_mut().insert(actor);
        return next.run(request).await;
    }
    if let Some((tenant, value)) = asks_for(&request)
        && let Some(recognised) = reader(&app, &tenant, &value).await
    {
        return match recognised {
            Ok(actor) => {
                request.extensions_mut().insert(actor);
                next.run(request).await
            }
            Err(failure) => failure.into_response(),
        };
    }
    let failures = gate.failed();
    // A line for the first of a series and for each hundredth.
    if failures % 100 == 1 {
        tracing::warn!(failures, "requests to the admin API without a valid token");
    }
    if failures <= FREE {
        let message = "send the admin token as `authorization: Bearer`: it is LONGSHORE_ADMIN_TOKEN of the admin service \
                       (`longshore dev` writes it to .longshore/admin.token)";
        let mut response = Failure::new(ApiCode::Unauthorized, message).into_response();
        response.headers_mut().insert(http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    }
    tokio::time::sleep(DELAY).await;
    let message = format!(
        "more than {FREE} requests within a minute had no valid admin token: check LONGSHORE_ADMIN_TOKEN"
    );
    let failure = Failure::new(ApiCode::TooManyFailures, message);
    Failure { retry_after: Some(WINDOW.as_secs()), ..failure }.into_response()
}

/// Everybody with the token is the same operator to us; who else they say they are is a claim.
fn actor(headers: &HeaderMap) -> Actor {
    let claim = headers.get("x-longshore-actor").and_then(|value| value.to_str().ok());
    let fits =
        |claim: &&str| (1..=MAX_ACTOR).contains(&claim.len()) && claim.bytes().all(|b| b.is_ascii_graphic());
    Actor(match claim.filter(fits) {
        Some(claim) => format!("admin token, says {claim}"),
        None => "admin token".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use longshore_service::config::Secret;

    use super::*;

    fn gate() -> Gate {
        let tokens =
            ServiceTokens::new(Some(Secret::new("right-token-right")), Some(Secret::new("former-token")));
        Gate::new(tokens.unwrap(), &Metrics::new("admin"))
    }

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn only_the_current_and_the_former_token_open() {
        let gate = gate();
        for right in ["Bearer right-token-right", "bearer former-token", "BEARER right-token-right"] {
            assert!(gate.knows(&headers(&[right])), "{right}");
        }
        for wrong in [
            "right-token-right",
            "Basic right-token-right",
            "Bearer",
            "Bearer ",
            "Bearer  right-token-right",
            "Bearer right-token-right ",
            "Bearer right-token-righ",
            "Bearer RIGHT-TOKEN-RIGHT",
            "",
        ] {
            assert!(!gate.knows(&headers(&[wrong])), "{wrong:?}");
        }
        assert!(!gate.knows(&headers(&[])));
        let twice = ["Bearer right-token-right", "Bearer right-token-right"];
        assert!(!gate.knows(&headers(&twice)), "two headers");
    }

    #[test]
    fn who_says_nothing_or_nonsense_is_the_holder_of_the_token() {
        let named = |name: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-longshore-actor", HeaderValue::from_str(name).unwrap());
            actor(&headers).0
        };
        assert_eq!(named("jane@host"), "admin token, says jane@host");
        for bad in ["", "two words", &"x".repeat(129)] {
            assert_eq!(named(bad), "admin token");
        }
    }
}
