//! The client of the admin API. Every failure says what to do.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use longshore_admin::api::{ApiCode, ApiError};
use longshore_proto::TenantId;
use longshore_service::errors::chain;
use longshore_service::upstream::{Upstream, UpstreamError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::place::{FleetArgs, Place};
use crate::exit::{Exit, Failure};

/// A page of a thousand installs is a few MiB.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// The body of a refusal is a few hundred bytes.
const MAX_REFUSAL_BYTES: usize = 64 << 10;
/// Lists, tokens and changes answer in milliseconds; a purge or an upload over a slow line does not.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Uploads of 200 MiB, purges and collections.
const LONG_TIMEOUT: Duration = Duration::from_secs(900);

/// The admin API of one fleet. Clones share the connections.
#[derive(Clone)]
pub struct AdminClient {
    http: Upstream,
    place: Place,
    authorization: HeaderValue,
}

impl AdminClient {
    /// For the fleet that is named. Nothing is sent yet.
    ///
    /// # Errors
    /// No fleet or no token is named.
    pub fn new(args: &FleetArgs) -> Result<Self, Failure> {
        Self::at(Place::find(args)?)
    }

    /// For a fleet that was found.
    ///
    /// # Errors
    /// It has no token, or one that is none.
    pub fn at(place: Place) -> Result<Self, Failure> {
        let Some(token) = &place.token else {
            return Err(Failure::new(
                Exit::NotPermitted,
                "no_token",
                format!("there is no token for the admin service on {}", place.admin_url),
            )
            .hint(
                "start a fleet by `longshore dev` (in this folder or one above it, or name its data folder by LONGSHORE_DEV_DATA), \
                 or name one by LONGSHORE_ADMIN_URL with LONGSHORE_ADMIN_TOKEN or LONGSHORE_ADMIN_TOKEN_FILE",
            ));
        };
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token.text)).map_err(|_| {
            let message = format!("the token of {} has characters that no token has", token.origin);
            Failure::new(Exit::NotPermitted, "no_token", message)
        })?;
        authorization.set_sensitive(true);
        let http = Upstream::new()
            .map_err(|error| Failure::new(Exit::Failed, "failed", chain(&error).to_string()))?;
        Ok(Self { http, place, authorization })
    }

    /// The fleet.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// `GET`.
    ///
    /// # Errors
    /// As every request of this type: no answer, a refusal, an answer that is not understood.
    pub async fn get<T: DeserializeOwned>(&self, route: Route<'_>) -> Result<T, Failure> {
        self.json(Method::GET, route, None, TIMEOUT).await
    }

    /// `DELETE`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn delete<T: DeserializeOwned>(&self, route: Route<'_>) -> Result<T, Failure> {
        self.json(Method::DELETE, route, None, LONG_TIMEOUT).await
    }

    /// `POST` or `PATCH` of JSON. `wait` is added to the time that the answer may take.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        route: Route<'_>,
        body: &impl Serialize,
        wait: Duration,
    ) -> Result<T, Failure> {
        let json = serde_json::to_vec(body).map_err(|error| Failure::from(anyhow::Error::new(error)))?;
        let body = ("application/json", Bytes::from(json));
        self.json(method, route, Some(body), TIMEOUT.saturating_add(wait)).await
    }

    /// `POST` of JSON to something that may work for minutes.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn work<T: DeserializeOwned>(
        &self,
        route: Route<'_>,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.send(Method::POST, route, body, LONG_TIMEOUT).await
    }

    /// `PUT` of bytes.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn put<T: DeserializeOwned>(
        &self,
        route: Route<'_>,
        content_type: &'static str,
        bytes: Bytes,
    ) -> Result<T, Failure> {
        self.json(Method::PUT, route, Some((content_type, bytes)), LONG_TIMEOUT).await
    }

    /// Every page of a list.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn pages<P: DeserializeOwned, T>(
        &self,
        route: Route<'_>,
        part: impl Fn(P) -> (Vec<T>, Option<String>),
    ) -> Result<Vec<T>, Failure> {
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        // A service that always names another page must not hold us for ever.
        for _ in 0..MAX_PAGES {
            let mut route = route.clone();
            if let Some(cursor) = &cursor {
                route.query.push(("cursor", cursor.clone()));
            }
            let (items, next) = part(self.get(route).await?);
            all.extend(items);
            match next {
                Some(next) if cursor.as_ref() != Some(&next) => cursor = Some(next),
                _ => break,
            }
        }
        Ok(all)
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        route: Route<'_>,
        body: Option<(&'static str, Bytes)>,
        timeout: Duration,
    ) -> Result<T, Failure> {
        let answer = self.whole(method, route, "application/json", body, timeout, MAX_ANSWER_BYTES).await?;
        serde_json::from_slice(&answer).map_err(|error| self.not_understood(&error.to_string()))
    }

    /// `GET` of bytes, of at most `max_bytes`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn bytes(&self, route: Route<'_>, max_bytes: usize) -> Result<Bytes, Failure> {
        self.whole(Method::GET, route, "application/octet-stream", None, LONG_TIMEOUT, max_bytes).await
    }

    /// `GET` of lines that come as things happen.
    ///
    /// # Errors
    /// As [`Self::get`], until the answer begins.
    pub async fn open(&self, route: Route<'_>) -> Result<Incoming, Failure> {
        let request = self.request(Method::GET, route, "application/x-ndjson", None)?;
        let answer = self.http.open(request, TIMEOUT).await.map_err(|e| self.no_answer(&e))?;
        let (parts, body) = answer.into_parts();
        if parts.status.is_success() {
            return Ok(body);
        }
        // A refusal is a short document; what is none is told as such.
        let refusal = tokio::time::timeout(TIMEOUT, Limited::new(body, MAX_REFUSAL_BYTES).collect()).await;
        let refusal = refusal.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
        Err(self.refused(&Response::from_parts(parts, refusal)))
    }

    async fn whole(
        &self,
        method: Method,
        route: Route<'_>,
        accept: &'static str,
        body: Option<(&'static str, Bytes)>,
        timeout: Duration,
        max_bytes: usize,
    ) -> Result<Bytes, Failure> {
        let request = self.request(method, route, accept, body)?;
        let answer = self.http.send(request, timeout, max_bytes).await.map_err(|e| self.no_answer(&e))?;
        if answer.status().is_success() { Ok(answer.into_body()) } else { Err(self.refused(&answer)) }
    }

    fn request(
        &self,
        method: Method,
        route: Route<'_>,
        accept: &'static str,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<Request<Bytes>, Failure> {
        let url = route.url(&self.place.admin_url)?;
        let mut request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .header("authorization", self.authorization.clone())
            .header("accept", accept)
            .header("x-request-id", format!("cli-{:016x}", rand::random::<u64>()));
        let body = body.map(|(content_type, bytes)| {
            request = std::mem::take(&mut request).header("content-type", content_type);
            bytes
        });
        request
            .body(body.unwrap_or_default())
            .map_err(|error| Failure::usage(format!("{url} is no address: {error}")))
    }

    fn no_answer(&self, error: &UpstreamError) -> Failure {
        let url = &self.place.admin_url;
        let message = format!("the admin service on {url} does not answer: {}", chain(error));
        let failure = Failure::new(Exit::Unreachable, "unreachable", message);
        match error {
            UpstreamError::Timeout(_) => {
                failure.hint("it may still be at work; `longshore doctor` says what it waits for")
            }
            _ if self.place.dev.is_some() => {
                failure.hint("is `longshore dev` running? It has ended, or been killed")
            }
            _ => failure
                .hint("start it (`longshore dev`, or `longshore-admin`), or correct LONGSHORE_ADMIN_URL"),
        }
    }

    fn not_understood(&self, why: &str) -> Failure {
        let message =
            format!("what answers on {} is no admin service of this version: {why}", self.place.admin_url);
        Failure::new(Exit::Failed, "not_understood", message)
            .hint("check LONGSHORE_ADMIN_URL (it is not the gateway's address), and that fleet and command are of one version")
    }

    fn refused(&self, answer: &Response<Bytes>) -> Failure {
        let status = answer.status();
        let Ok(error) = serde_json::from_slice::<ApiError>(answer.body()) else {
            return self.not_understood(&format!("HTTP {status} without the body that a refusal has"));
        };
        let code = ApiCode::parse(&error.code);
        // A route of a later version, or another program.
        if matches!(code, Some(ApiCode::NotFound | ApiCode::MethodNotAllowed)) {
            return self.not_understood(&error.message);
        }
        let failure =
            Failure::new(exit_of(code, status), code.map_or("refused", ApiCode::as_str), error.message)
                .details(serde_json::json!({ "request_id": error.request_id, "status": status.as_u16() }));
        match self.hint(code, &error.request_id) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }

    fn hint(&self, code: Option<ApiCode>, request_id: &str) -> Option<String> {
        let origin = self.place.token.as_ref().map(|token| token.origin.as_str()).unwrap_or_default();
        Some(match code? {
            ApiCode::Unauthorized => format!(
                "the token of {origin} is not this service's: name another by LONGSHORE_ADMIN_TOKEN_FILE"
            ),
            ApiCode::InstallNotFound => {
                "`longshore list --all-tenants` shows what is installed for whom".to_owned()
            }
            ApiCode::BundleNotFound => {
                "upload it: `longshore install DIR` or `longshore install BUNDLE` does".to_owned()
            }
            ApiCode::GrantRequired => {
                "name what it may do by --grant CAPABILITY (repeatable), or all of it by --grant-all"
                    .to_owned()
            }
            ApiCode::SignatureRefused => {
                "sign it: `longshore sign BUNDLE --key FILE`, then install it again".to_owned()
            }
            ApiCode::Internal => format!("the service's log has the cause under {request_id}"),
            ApiCode::Unavailable => "`longshore doctor` says what is missing".to_owned(),
            _ => return None,
        })
    }
}

/// More pages than a fleet has installs.
const MAX_PAGES: usize = 10_000;

/// The exit code that goes with a refusal.
fn exit_of(code: Option<ApiCode>, status: StatusCode) -> Exit {
    let Some(code) = code else {
        return match status.as_u16() {
            401 | 403 => Exit::NotPermitted,
            404 => Exit::NotFound,
            400 | 413 | 422 => Exit::Invalid,
            502..=504 => Exit::Unreachable,
            _ => Exit::Failed,
        };
    };
    match code {
        ApiCode::InvalidRequest
        | ApiCode::HashMismatch
        | ApiCode::InvalidBundle
        | ApiCode::InvalidTrace
        | ApiCode::TooLarge
        | ApiCode::UnsupportedMediaType => Exit::Invalid,
        ApiCode::Unauthorized
        | ApiCode::Forbidden
        | ApiCode::NotConfirmed
        | ApiCode::GrantRequired
        | ApiCode::GrantNotRequested
        | ApiCode::SignatureRefused
        | ApiCode::TooManyFailures => Exit::NotPermitted,
        ApiCode::InstallNotFound
        | ApiCode::BundleNotFound
        | ApiCode::TokenNotFound
        | ApiCode::TraceNotFound
        | ApiCode::NotFound => Exit::NotFound,
        ApiCode::Unavailable => Exit::Unreachable,
        ApiCode::MethodNotAllowed
        | ApiCode::Timeout
        | ApiCode::Conflict
        | ApiCode::HostTaken
        | ApiCode::NoPreviousVersion
        | ApiCode::BundleInUse
        | ApiCode::LimitReached
        | ApiCode::SecretsUnavailable
        | ApiCode::Internal => Exit::Failed,
    }
}

/// A route of the API: segments below `/v1`, which may hold any text, and a query.
#[derive(Debug, Clone)]
pub struct Route<'a> {
    segments: Vec<&'a str>,
    query: Vec<(&'static str, String)>,
}

impl<'a> Route<'a> {
    /// `/v1/` and these.
    pub fn new<const N: usize>(segments: [&'a str; N]) -> Self {
        Self { segments: segments.into(), query: Vec::new() }
    }

    /// `/v1/tenants/{tenant}/` and these.
    pub fn of_tenant<const N: usize>(tenant: &'a TenantId, segments: [&'a str; N]) -> Self {
        let mut all = vec!["tenants", tenant.as_str()];
        all.extend(segments);
        Self { segments: all, query: Vec::new() }
    }

    /// The same with a parameter.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    /// The same with a parameter, if there is a value.
    #[must_use]
    pub fn with_some(self, name: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    fn url(&self, base: &Url) -> Result<Url, Failure> {
        // A URL forgets such segments, and the request would be another one.
        if let Some(bad) = self.segments.iter().find(|segment| matches!(**segment, "" | "." | "..")) {
            return Err(Failure::usage(format!("{bad:?} names nothing")));
        }
        let mut url = base.clone();
        url.path_segments_mut()
            .map_err(|()| Failure::usage(format!("{base} is no address of a service")))?
            .pop_if_empty()
            .push("v1")
            .extend(&self.segments);
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(route: Route<'_>) -> String {
        route.url(&Url::parse("http://127.0.0.1:8090").unwrap()).unwrap().to_string()
    }

    #[test]
    fn a_reference_is_one_segment_whatever_is_in_it() {
        let tenant: TenantId = "t-1".parse().unwrap();
        let route = Route::of_tenant(&tenant, ["installs", "a/../b ?#%"]).with("purge", true);
        assert_eq!(
            url(route),
            "http://127.0.0.1:8090/v1/tenants/t-1/installs/a%2F..%2Fb%20%3F%23%25?purge=true"
        );
        for bad in ["", ".", ".."] {
            let base = Url::parse("http://x").unwrap();
            assert!(Route::of_tenant(&tenant, ["installs", bad]).url(&base).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_base_may_have_a_path_of_its_own() {
        let base = Url::parse("https://fleet.example.com/longshore/").unwrap();
        let made = Route::new(["pools"]).url(&base).unwrap();
        assert_eq!(made.as_str(), "https://fleet.example.com/longshore/v1/pools");
    }

    #[test]
    fn every_code_has_an_exit_and_a_later_one_goes_by_its_status() {
        for code in ApiCode::ALL {
            assert_ne!(exit_of(Some(*code), StatusCode::IM_A_TEAPOT), Exit::Ok);
        }
        assert_eq!(exit_of(None, StatusCode::NOT_FOUND), Exit::NotFound);
        assert_eq!(exit_of(None, StatusCode::SERVICE_UNAVAILABLE), Exit::Unreachable);
        assert_eq!(exit_of(None, StatusCode::IM_A_TEAPOT), Exit::Failed);
    }
}
