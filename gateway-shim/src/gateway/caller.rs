//! Who calls, and what they may call.

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Method};
use longshore_access::{Access, Authenticate, Credential, Denied, Principal};
use longshore_proto::install::Install;
use longshore_proto::{CallError, ErrorCode, TenantId};

use super::{loopback, target};

/// Longer credentials are not looked at.
const MAX_CREDENTIAL: usize = 8 * 1024;

/// Recognises the caller.
///
/// # Errors
/// `unauthenticated`, in the same words whatever is wrong; `registry_unavailable` while tokens are not known.
pub(crate) async fn authenticate(
    access: &dyn Authenticate,
    dev_tenant: Option<&TenantId>,
    head: &Parts,
) -> Result<Principal, CallError> {
    if let Some(tenant) = dev_tenant
        && !head.headers.contains_key(AUTHORIZATION)
        && loopback::permits(head)
    {
        let tenant = tenant.clone();
        return Ok(Principal {
            tenant,
            access: Access::Write,
            extensions: None,
            credential: Credential::Loopback,
        });
    }
    let unauthenticated = || {
        let words = "send `authorization: Bearer` with a token that is valid here; `longshore token create` makes one";
        CallError::new(ErrorCode::Unauthenticated, words)
    };
    let credential = bearer(&head.headers).ok_or_else(unauthenticated)?;
    match access.authenticate(credential).await {
        Ok(principal) => Ok(principal),
        Err(Denied::Unavailable(why)) => {
            tracing::warn!(why, "a caller's token cannot be checked");
            Err(CallError::new(ErrorCode::RegistryUnavailable, "tokens cannot be checked now: try again"))
        }
        Err(denied @ (Denied::Invalid(_) | Denied::Expired)) => {
            tracing::info!(%denied, "a caller was not recognised");
            Err(unauthenticated())
        }
    }
}

/// The credential of the one `authorization` header. Of several, another program might look at another.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    let (scheme, credential) = value.split_once(' ')?;
    let plain = !credential.is_empty() && credential.bytes().all(|b| b.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case("bearer") && plain && credential.len() <= MAX_CREDENTIAL)
        .then_some(credential)
}

/// Checks what a request says about its tenant: nothing, or the credential's. Nothing of it is ever believed.
///
/// # Errors
/// `tenant_mismatch`.
pub(crate) fn check_claims(head: &Parts, tenant: &TenantId) -> Result<(), CallError> {
    let in_headers = ["x-alga-tenant", "x-tenant-id"]
        .into_iter()
        .flat_map(|name| head.headers.get_all(name))
        .map(|value| value.to_str().unwrap_or("?").trim().to_owned());
    let in_query = target::values(head.uri.query(), "tenant");
    let mut claims = in_headers.chain(in_query).filter(|claim| !claim.is_empty());
    if claims.all(|claim| claim == tenant.as_str()) {
        return Ok(());
    }
    let words = "the request names another tenant than its credential: leave x-alga-tenant, x-tenant-id and ?tenant= out";
    Err(CallError::new(ErrorCode::TenantMismatch, words))
}

/// Checks what the credential allows of every extension.
///
/// # Errors
/// `forbidden`.
pub(crate) fn check_method(principal: &Principal, method: &Method) -> Result<(), CallError> {
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    match principal.access {
        Access::Write => Ok(()),
        Access::Read if reads => Ok(()),
        Access::Read => {
            Err(CallError::new(ErrorCode::Forbidden, "the credential is for reading: GET, HEAD and OPTIONS"))
        }
    }
}

/// Checks whether the credential is for this one of the tenant's extensions.
///
/// # Errors
/// `forbidden`.
pub(crate) fn check_extension(principal: &Principal, install: &Install) -> Result<(), CallError> {
    let Some(allowed) = &principal.extensions else { return Ok(()) };
    let (version, slug) = (&install.version, install.version.slug());
    let meant = |one: &String| {
        one == install.extension.as_str()
            || *one == install.install_id
            || one.eq_ignore_ascii_case(&version.name)
            || one.to_lowercase() == slug
    };
    if allowed.iter().any(meant) {
        return Ok(());
    }
    Err(CallError::new(ErrorCode::Forbidden, "the credential is for other extensions of the tenant"))
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};

    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_credential_is_what_follows_bearer_in_the_one_header() {
        for (values, found) in [
            (vec!["Bearer abc"], Some("abc")),
            (vec!["bEARER abc"], Some("abc")),
            (vec!["Bearer  abc"], None),
            (vec!["Bearer abc def"], None),
            (vec!["Bearer "], None),
            (vec!["Bearer"], None),
            (vec!["Basic abc"], None),
            (vec!["abc"], None),
            (vec!["Bearer abc", "Bearer abc"], None),
            (vec![], None),
        ] {
            assert_eq!(bearer(&headers(&values)), found, "{values:?}");
        }
        assert_eq!(bearer(&headers(&[&format!("Bearer {}", "a".repeat(MAX_CREDENTIAL + 1))])), None);
    }

    #[test]
    fn every_claim_about_the_tenant_must_be_the_credentials() {
        let tenant: TenantId = "t".parse().unwrap();
        let check = |uri: &str, headers: &[(&str, &str)]| {
            let mut request = Request::get(uri);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            check_claims(&request.body(()).unwrap().into_parts().0, &tenant).is_ok()
        };
        assert!(check("/x", &[]));
        assert!(check("/x?tenant=t&tenant=", &[("x-alga-tenant", "t"), ("x-tenant-id", "")]));
        assert!(!check("/x", &[("x-alga-tenant", "u")]));
        assert!(!check("/x", &[("x-alga-tenant", "t"), ("x-alga-tenant", "u")]));
        assert!(!check("/x", &[("x-tenant-id", "T")]));
        assert!(!check("/x?tenant=u", &[]));
        assert!(!check("/x?tenant=t&t%65nant=u", &[]));
    }
}
