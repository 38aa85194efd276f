//! Who calls an extension while it is developed.

use std::collections::BTreeMap;

use longshore_proto::User;

/// The user behind the calls of `longshore dev` and of `longshore call --bundle`: the same, so that an extension answers both alike.
pub(crate) fn developer() -> User {
    User {
        user_id: "dev".into(),
        user_email: "dev@localhost".into(),
        user_name: "developer".into(),
        user_type: "internal".into(),
        client_name: String::new(),
        client_id: None,
        additional_fields: BTreeMap::new(),
    }
}
