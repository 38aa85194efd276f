//! `/api/ext`: installed through the admin API, called with a token.

use longshore_tests::{Caller, Stack, store};
use serde_json::{Value, json};

/// The guest that says what it was called with.
fn echo(version: &str) -> Vec<u8> {
    let endpoints = [
        "GET /",
        "POST /",
        "GET /items/:id",
        "POST /items/:id/send",
        "DELETE /items/:id idempotent",
        "OPTIONS /asks",
    ];
    store::extension("echo", "echo", version, &[], &endpoints)
}

#[allow(dead_code)]
fn header<'j>(echoed: &'j Value, name: &str) -> Option<&'j str> {
    let pairs = echoed["headers"].as_array().unwrap();
    pairs.iter().find(|pair| pair[0] == name).and_then(|pair| pair[1].as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_install_is_called_by_each_of_its_names_with_a_token_of_its_tenant() {
    let (_stack, admin, [_worker], gateway) = Stack::standalone(&[], &[]).await;
    let installed = admin.install("tenant-1", &echo("1.0.0"), json!({})).await;
    let install = &installed["install"];
    assert_eq!((&installed["outcome"], &installed["warm"]["complete"]), (&json!("created"), &json!(true)));
    let caller = Caller::new(&gateway, admin.token("tenant-1", "write").await);
    let id = install["install_id"].as_str().unwrap().to_owned();
    let extension = install["extension"].as_str().unwrap().to_owned();
    let slug = install["slug"].as_str().unwrap().to_owned();
    let names = [
        id.clone(),
        extension.clone(),
        "com.longshore.test.echo".to_owned(),
        "com.longshore.TEST.Echo".to_owned(),
        slug.clone(),
        slug.to_uppercase(),
        "com%2Elongshore.test.echo".to_owned(),
    ];
    for name in names {
        let reply = caller.get(&format!("{name}/items/7?b=2&a=1&b=3")).await;
        assert_eq!(reply.transport, 200, "{name}: {reply:?}");
        let echoed = reply.plain_json();
        assert_eq!((&echoed["method"], &echoed["url"]), (&json!("GET"), &json!("/items/7?b=2&a=1&b=3")));
        let context = &echoed["context"];
        assert_eq!(context["tenant_id"], "tenant-1", "{echoed}");
        assert_eq!(context["extension_id"], extension, "{echoed}");
        assert_eq!(context["install_id"], id, "{echoed}");
        assert_eq!(context["version_id"], install["version"]["version_id"], "{echoed}");
    }
    let reply = caller.send("POST", &format!("{extension}/items/7/send"), &[], "body").await;
    assert_eq!((reply.transport, &reply.plain_json()["body_length"]), (200, &json!(4)));
}
