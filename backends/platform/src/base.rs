//! Addresses that an operator has configured.

use url::Url;

/// Why a configured address is no base for requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BaseError {
    /// Neither `http` nor `https`.
    #[error("only http and https addresses can be asked")]
    Scheme,
    /// `user:password@`: it would be printed with the address.
    #[error("credentials do not belong into the address")]
    Credentials,
    /// A query or fragment, to which no path can be appended.
    #[error("the address may have neither a query nor a fragment")]
    Query,
}

/// The address without a trailing `/`, to which a path that begins with `/` is appended.
pub(crate) fn base(url: &Url) -> Result<String, BaseError> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(BaseError::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(BaseError::Credentials);
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(BaseError::Query);
    }
    Ok(format!("{}{}", url.origin().ascii_serialization(), url.path().trim_end_matches('/')))
}

/// As [`base`], and without a trailing `/api`, which operators write because the routes begin with it (interop 5.4).
/// Taken off the path only: a host may be called `api`.
pub(crate) fn api_base(url: &Url) -> Result<String, BaseError> {
    let mut url = url.clone();
    let path = url.path().trim_end_matches('/');
    if let Some(short) = path.strip_suffix("/api") {
        let short = short.trim_end_matches('/').to_owned();
        url.set_path(&short);
    }
    base(&url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trailing_slash_and_a_trailing_api_are_taken_off_the_path_only() {
        for (given, expected) in [
            ("http://platform:3000", "http://platform:3000"),
            ("http://platform:3000/", "http://platform:3000"),
            ("http://platform:3000/api", "http://platform:3000"),
            ("http://platform:3000/api/", "http://platform:3000"),
            ("https://example.com/psa//api//", "https://example.com/psa"),
            ("https://example.com/psa/xapi", "https://example.com/psa/xapi"),
            ("http://api", "http://api"),
            ("http://api/api", "http://api"),
            ("http://[::1]:8080/api", "http://[::1]:8080"),
        ] {
            assert_eq!(api_base(&Url::parse(given).unwrap()).unwrap(), expected, "{given}");
        }
        assert_eq!(base(&Url::parse("http://ui/api/").unwrap()).unwrap(), "http://ui/api");
    }

    #[test]
    fn an_address_that_no_path_can_follow_is_refused() {
        for (given, expected) in [
            ("ftp://platform", BaseError::Scheme),
            ("http://user:pw@platform", BaseError::Credentials),
            ("http://platform/?x=1", BaseError::Query),
            ("http://platform/#x", BaseError::Query),
        ] {
            assert_eq!(api_base(&Url::parse(given).unwrap()), Err(expected), "{given}");
        }
    }
}
