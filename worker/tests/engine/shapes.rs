//! Components built against older copies of the extension's WIT (interop 1.5).

use longshore_proto::event::Kind;
use longshore_proto::{ErrorCode, User};

use crate::support::{Fixture, answer, call, fixture};

fn ada() -> User {
    User {
        user_id: "u-1".into(),
        user_email: "ada@example.org".into(),
        user_name: "Ada".into(),
        user_type: "internal".into(),
        client_name: "Analytical".into(),
        client_id: Some("c-1".into()),
        additional_fields: Default::default(),
    }
}

async fn text(fixture: &Fixture, call: crate::support::Call) -> String {
    let outcome = fixture.run(call).await;
    String::from_utf8(answer(&outcome).body.as_ref().unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn every_user_record_of_the_past_is_made_by_the_names_of_its_fields() {
    let fixture = fixture();
    for (guest, expected) in [
        (
            "user-company",
            "tenant-id: \"tenant-1\", company-name: \"Analytical\", user-id: \"u-1\", user-email: \"ada@example.org\", user-name: \"Ada\"",
        ),
        (
            "user-client-last",
            "tenant-id: \"tenant-1\", client-name: \"Analytical\", user-id: \"u-1\", user-email: \"ada@example.org\", \
             user-name: \"Ada\", user-type: \"internal\", client-id: Some(\"c-1\")",
        ),
        (
            "user-client-optional",
            "tenant-id: \"tenant-1\", client-name: Some(\"Analytical\"), user-id: \"u-1\", user-email: \"ada@example.org\", \
             user-name: \"Ada\", user-type: \"internal\", client-id: Some(\"c-1\")",
        ),
        (
            "user-client-second",
            "tenant-id: \"tenant-1\", client-id: Some(\"c-1\"), client-name: \"Analytical\", user-id: \"u-1\", \
             user-email: \"ada@example.org\", user-name: \"Ada\", user-type: \"internal\"",
        ),
    ] {
        let found = text(&fixture, call(guest, "/").user(ada())).await;
        assert_eq!(found, format!("Ok(UserData {{ {expected} }})"), "{guest}");
    }
}

#[tokio::test]
async fn what_a_user_lacks_is_none_where_the_record_allows_it() {
    let user = User { client_name: String::new(), client_id: None, ..ada() };
    let found = text(&fixture(), call("user-client-optional", "/").user(user)).await;
    assert!(found.contains("client-name: None") && found.contains("client-id: None"), "{found}");
}

#[tokio::test]
async fn an_older_get_user_is_counted_recorded_and_says_no_like_todays() {
    let fixture = fixture();
    let outcome = fixture.run(call("user-company", "/")).await;
    let body = answer(&outcome).body.as_ref().unwrap();
    let body = std::str::from_utf8(body).unwrap();
    assert!(body.starts_with("Err(UserError") && body.contains("\"not-available\""), "{body}");
    assert_eq!(outcome.usage.host_calls, 1);
    assert_eq!(fixture.messages(Kind::HostCall), ["user.get-user not-available"]);
}

#[tokio::test]
async fn a_user_record_that_never_was_is_refused_and_its_field_named() {
    let error = fixture().run(call("user-unknown", "/").user(ada())).await.result.unwrap_err();
    assert_eq!(error.code, ErrorCode::Link);
    assert!(
        error.message.contains("alga:extension/user") && error.message.contains("`shoe-size`"),
        "{error}"
    );
}

#[tokio::test]
async fn the_templates_names_are_the_same_functions() {
    let fixture = fixture();
    let found = text(&fixture, call("alias", "/")).await;
    let lines: Vec<_> = found.lines().collect();
    assert!(lines[0] == "[]" && lines[1..].iter().all(|line| line.contains("\"denied\"")), "{found}");
    assert_eq!(fixture.messages(Kind::Log), ["an info", "a warning", "an error"]);
    let calls: Vec<_> = fixture.messages(Kind::HostCall);
    for name in ["secrets.list-keys denied", "storage.list-entries denied", "ui-proxy.call-route denied"] {
        assert!(calls.iter().any(|call| call == name), "{calls:?}");
    }
}
