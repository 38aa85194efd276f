//! Whose page is asked for. A request only ever claims a tenant; who confirms the claim is decided in [`super::UiState`].

use http::HeaderMap;
use http::request::Parts;
use longshore_proto::TenantId;
use url::form_urlencoded;

use super::UiState;
use super::answers::Refusal;
use super::config::SubResources;
use super::host;
use super::path::Target;

/// A tenant and where its name was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub tenant: TenantId,
    /// The path itself is signed for it: no redirect is needed.
    pub signed: bool,
}

/// The claim of a request: query, header, signed path, hint, host, in this order (interop 4.1). Where query or header name somebody
/// else than a signed path does, they are the newer word, and the registry decides.
pub(super) async fn claim(state: &UiState, head: &Parts, target: &Target) -> Result<Option<Claim>, Refusal> {
    let signed = target
        .signature
        .as_deref()
        .and_then(|text| state.signer.verify(text, &target.extension, target.hash));
    let named = match from_query(head.uri.query().unwrap_or_default())? {
        Some(tenant) => Some(tenant),
        None => from_header(&head.headers)?,
    };
    if let Some(tenant) = named {
        let signed = signed.as_ref() == Some(&tenant);
        return Ok(Some(Claim { tenant, signed }));
    }
    if let Some(tenant) = signed {
        return Ok(Some(Claim { tenant, signed: true }));
    }
    let hints = !state.config.strict || state.config.sub_resources == SubResources::Hint;
    if hints && let Some(tenant) = state.hints.get(&target.extension, target.hash).await {
        return Ok(Some(Claim { tenant, signed: false }));
    }
    // A request without a usable host names nobody; here that is no mistake of its own.
    let Ok(host) = host::named(head) else { return Ok(None) };
    match state.registry.by_host(&host).await {
        Ok(found) => Ok(found.map(|found| Claim { tenant: found.tenant, signed: false })),
        Err(error) => Err(Refusal::registry(&error)),
    }
}

/// A text that is no tenant's id names nobody.
fn parsed(text: &str) -> Result<Option<TenantId>, Refusal> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| Refusal::NOT_FOUND),
    }
}

fn from_query(query: &str) -> Result<Option<TenantId>, Refusal> {
    let mut found = None;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name == "tenant" {
            let tenant = parsed(&value)?;
            // Which of two another program looks at is anybody's guess.
            if found.is_some() && found != tenant {
                return Err(Refusal::NOT_FOUND);
            }
            found = tenant;
        }
    }
    Ok(found)
}

fn from_header(headers: &HeaderMap) -> Result<Option<TenantId>, Refusal> {
    let mut found = None;
    for value in headers.get_all("x-tenant-id") {
        let tenant = parsed(value.to_str().map_err(|_| Refusal::NOT_FOUND)?.trim())?;
        if found.is_some() && found != tenant {
            return Err(Refusal::NOT_FOUND);
        }
        found = tenant;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_in_the_query_is_one_and_spelled_as_an_id() {
        let query = |text: &str| from_query(text).map(|found| found.map(|tenant| tenant.to_string()));
        assert_eq!(query("path=/x&tenant=t-1"), Ok(Some("t-1".to_owned())));
        assert_eq!(query("tenant=t%2D1"), Ok(Some("t-1".to_owned())));
        assert_eq!(query("tenant=t&tenant=t"), Ok(Some("t".to_owned())));
        for nobody in ["", "tenant=", "tenant", "Tenant=t", "x=tenant"] {
            assert_eq!(query(nobody), Ok(None), "{nobody}");
        }
        for bad in
            ["tenant=a&tenant=b", "tenant=..", "tenant=a%2Fb", "tenant=a%00", "tenant=*", "tenant=a%20b"]
        {
            assert_eq!(query(bad), Err(Refusal::NOT_FOUND), "{bad}");
        }
    }
}
