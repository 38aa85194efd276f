//! The content security policy of HTML pages (interop 4.1).

use http::HeaderValue;

/// What the existing platform sends. `'self'` is the origin of the page's address, also where the page itself has none because its
/// frame is sandboxed.
const DEFAULT: &str = "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     font-src 'self'; connect-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'";

/// The policy that the two settings make. A value that cannot be used falls back to the default with a warning: a page without its
/// frame ancestors is a nuisance, a gateway that does not start is an outage.
pub(super) fn policy(whole: Option<&str>, ancestors: Option<&str>) -> HeaderValue {
    let filled =
        |value: Option<&'_ str>| value.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    if let Some(whole) = filled(whole) {
        match HeaderValue::from_str(&whole) {
            Ok(policy) => return policy,
            Err(_) => tracing::warn!(
                "EXT_UI_CONTENT_SECURITY_POLICY cannot be in a header (line breaks, control characters); the default policy is sent"
            ),
        }
    }
    if let Some(ancestors) = filled(ancestors) {
        // `;` would begin another directive, `,` another policy.
        let sources = !ancestors.contains([';', ',']);
        match HeaderValue::from_str(&format!("{DEFAULT}; frame-ancestors {ancestors}")) {
            Ok(policy) if sources => return policy,
            _ => tracing::warn!(
                "EXT_UI_FRAME_ANCESTORS is no list of sources separated by blanks; the default policy is sent"
            ),
        }
    }
    HeaderValue::from_static(DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_append_to_or_replace_the_default_and_nonsense_does_neither() {
        let text = |whole, ancestors| policy(whole, ancestors).to_str().unwrap().to_owned();
        assert_eq!(text(None, None), DEFAULT);
        assert!(!DEFAULT.contains("  "), "{DEFAULT}");
        assert_eq!(
            text(None, Some("https://a 'self'")),
            format!("{DEFAULT}; frame-ancestors https://a 'self'")
        );
        assert_eq!(text(Some("default-src *"), Some("https://a")), "default-src *");
        assert_eq!(text(Some("a\nb"), None), DEFAULT);
        assert_eq!(text(Some(" "), Some("  ")), DEFAULT);
        assert_eq!(text(None, Some("'self'; script-src *")), DEFAULT);
        assert_eq!(text(None, Some("'self', default-src *")), DEFAULT);
    }
}
