//! Hints of all gateways in a real JetStream, with the rights that `deploy/nats.conf` gives a gateway.

use std::collections::BTreeMap;

use gateway_shim::ui::KvHints;
use gateway_shim::ui::hints::{SharedHints as _, key};
use longshore_proto::{ContentHash, TenantId};
use longshore_service::config::NatsConfig;
use longshore_service::nats::{self, Options};
use longshore_tests::nats::Nats;
use longshore_tests::wait;

async fn hints(server: &Nats) -> KvHints {
    let env = BTreeMap::from([
        ("NATS_URL".to_owned(), server.url()),
        ("NATS_USER".to_owned(), "shim".to_owned()),
        ("NATS_PASSWORD".to_owned(), server.password("shim").to_owned()),
    ]);
    let config = NatsConfig::load(&env, ["test".to_owned()]).unwrap();
    let options = Options { inbox_prefix: Some("_R.shim.js".to_owned()), ..Options::default() };
    let (client, mut link) = nats::connect("test", &config, options).await.unwrap();
    wait::within("a connection", wait::LIMIT, link.connected(1)).await.unwrap();
    KvHints::new(client, link)
}

#[tokio::test]
async fn a_hint_of_one_gateway_is_read_and_replaced_by_another() {
    let server = Nats::start().await;
    let (one, two) = (hints(&server).await, hints(&server).await);
    let tenant = |text: &str| text.parse::<TenantId>().unwrap();
    let at = key(&"com.alga.x".parse().unwrap(), ContentHash::from_bytes([1; 32]));
    assert_eq!(one.get(&at).await.unwrap(), None, "there is not even a bucket");
    one.put(&at, &tenant("t-1")).await.unwrap();
    assert_eq!(two.get(&at).await.unwrap(), Some(tenant("t-1")));
    two.put(&at, &tenant("t-2")).await.unwrap();
    assert_eq!(one.get(&at).await.unwrap(), Some(tenant("t-2")));
    let other = key(&"com.alga.y".parse().unwrap(), ContentHash::from_bytes([1; 32]));
    assert_eq!(one.get(&other).await.unwrap(), None);
}

#[tokio::test]
async fn a_hint_that_cannot_be_read_is_none() {
    let server = Nats::start().await;
    let hints = hints(&server).await;
    let at = key(&"e-1".parse().unwrap(), ContentHash::from_bytes([1; 32]));
    hints.put(&at, &"t-1".parse().unwrap()).await.unwrap();
    let admin = async_nats::jetstream::new(server.client("admin").await.client);
    let subject = format!("$KV.longshore-ui-hints.{at}");
    for damaged in ["", "no json", r#"{"v":1}"#, r#"{"v":1,"tenant":"a/b"}"#] {
        admin.publish(subject.clone(), damaged.into()).await.unwrap().await.unwrap();
        assert_eq!(hints.get(&at).await.unwrap(), None, "{damaged}");
    }
}
