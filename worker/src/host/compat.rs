//! Older shapes of the guest interface (interop 1.5). Function names of the public `component-basic` template are
//! aliases. `user-data` had five records in its time: a component that imports another than today's gets a `get-user`
//! that makes the record by the names of its fields. Both are decided when a component is linked; a component of
//! today's shape keeps the typed functions.

use wasmtime::StoreContextMut;
use wasmtime::component::types::{ComponentFunc, ComponentItem, Type};
use wasmtime::component::{Component, InstancePre, Linker, Val};

use super::RunState;
use super::bindings::alga::extension::types::UserDataV2;
use super::bindings::alga::extension::{logging, secrets, storage, ui_proxy};

/// The interfaces whose record has changed, with today's fields.
const USER: [(&str, &[(&str, Field)]); 2] =
    [("alga:extension/user", &TODAY), ("alga:extension/user-v2", &TODAY_V2)];
const TODAY: [(&str, Field); 6] = [
    ("tenant-id", Field::Text),
    ("client-name", Field::Text),
    ("user-id", Field::Text),
    ("user-email", Field::Text),
    ("user-name", Field::Text),
    ("user-type", Field::Text),
];
const TODAY_V2: [(&str, Field); 8] = [
    ("tenant-id", Field::Text),
    ("client-name", Field::Text),
    ("user-id", Field::Text),
    ("user-email", Field::Text),
    ("user-name", Field::Text),
    ("user-type", Field::Text),
    ("client-id", Field::OptionalText),
    ("additional-fields", Field::Pairs),
];
const GET_USER: &str = "get-user";

/// Types that a field of a user record can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Text,
    OptionalText,
    Pairs,
}

/// Host functions for components of every age.
pub struct Linkers {
    today: Linker<RunState>,
    /// The same, with `get-user` for any shape.
    older: Linker<RunState>,
    /// Both, for runs with a tape.
    taped_today: Linker<RunState>,
    taped_older: Linker<RunState>,
}

/// A component cannot be linked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Its `get-user` is of no shape that the interface ever had.
    #[error("{0}")]
    Shape(String),
    /// As wasmtime says.
    #[error("{0:#}")]
    Wasmtime(wasmtime::Error),
}

impl Linkers {
    /// From the linker with today's functions and the aliases.
    pub fn new(today: Linker<RunState>) -> wasmtime::Result<Self> {
        let mut older = today.clone();
        older.allow_shadowing(true);
        for (interface, _) in USER {
            older.instance(interface)?.func_new_async(GET_USER, |store, function, _, results| {
                Box::new(get_user(store, function, results))
            })?;
        }
        let (mut taped_today, mut taped_older) = (today.clone(), older.clone());
        super::taped::shadow(&mut taped_today)?;
        super::taped::shadow(&mut taped_older)?;
        Ok(Self { today, older, taped_today, taped_older })
    }

    /// The component with its imports resolved.
    pub fn instantiate_pre(&self, component: &Component) -> Result<InstancePre<RunState>, LinkError> {
        let linker = if has_older_user(component)? { &self.older } else { &self.today };
        linker.instantiate_pre(component).map_err(LinkError::Wasmtime)
    }

    /// The same for runs with a tape.
    pub fn instantiate_pre_taped(&self, component: &Component) -> Result<InstancePre<RunState>, LinkError> {
        let linker = if has_older_user(component)? { &self.taped_older } else { &self.taped_today };
        linker.instantiate_pre(component).map_err(LinkError::Wasmtime)
    }
}

/// Whether the component imports a user record of another time than today's.
fn has_older_user(component: &Component) -> Result<bool, LinkError> {
    let (engine, ty) = (component.engine(), component.component_type());
    let mut older = false;
    for (interface, today) in USER {
        let import = ty.get_import(engine, interface).map(|import| import.ty);
        let Some(ComponentItem::ComponentInstance(instance)) = import else { continue };
        let function = instance.get_export(engine, GET_USER).map(|export| export.ty);
        let Some(ComponentItem::ComponentFunc(function)) = function else { continue };
        let fields =
            fields(&function).map_err(|why| LinkError::Shape(format!("{interface}: {GET_USER} {why}")))?;
        older |= !fields.iter().map(|(name, field)| (name.as_str(), *field)).eq(today.iter().copied());
    }
    Ok(older)
}

/// The record that a `get-user` gives, or what is wrong with it.
fn fields(function: &ComponentFunc) -> Result<Vec<(String, Field)>, String> {
    let Some(Type::Result(result)) = function.results().next().filter(|_| function.params().len() == 0)
    else {
        return Err("has other parameters or results than any version of the interface".to_owned());
    };
    let (Some(Type::Record(record)), Some(Type::Enum(error))) = (result.ok(), result.err()) else {
        return Err("gives no user record or has no error enum".to_owned());
    };
    if !["not-available", "not-allowed"].iter().all(|case| error.names().any(|name| name == *case)) {
        return Err("has an error enum without `not-available` or `not-allowed`".to_owned());
    }
    let fields = record.fields().map(|field| {
        let known = match (field.name, field.ty) {
            ("additional-fields", ty) => is_pairs(&ty).then_some(Field::Pairs),
            (name, Type::String) => is_text(name).then_some(Field::Text),
            (name, Type::Option(inner)) => {
                (is_text(name) && matches!(inner.ty(), Type::String)).then_some(Field::OptionalText)
            }
            _ => None,
        };
        known.map(|known| (field.name.to_owned(), known)).ok_or_else(|| {
            let mut name = field.name.to_owned();
            longshore_proto::event::truncate(&mut name, 64);
            format!(
                "gives a record with the field `{name}`, which no version of the interface has with this type"
            )
        })
    });
    fields.collect()
}

fn is_pairs(ty: &Type) -> bool {
    let Type::List(list) = ty else { return false };
    let Type::Tuple(pair) = list.ty() else { return false };
    pair.types().len() == 2 && pair.types().all(|part| matches!(part, Type::String))
}

fn is_text(name: &str) -> bool {
    name == "company-name" || TODAY_V2.iter().any(|(known, field)| *known == name && *field != Field::Pairs)
}

async fn get_user(
    mut store: StoreContextMut<'_, RunState>,
    function: ComponentFunc,
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let answer = match store.data_mut().older_user().await? {
        Ok(user) => {
            // Checked when the component was linked.
            let fields = fields(&function).map_err(wasmtime::Error::msg)?;
            let record = fields.into_iter().map(|(name, field)| {
                let value = value(&user, &name, field);
                (name, value)
            });
            Ok(Some(Box::new(Val::Record(record.collect()))))
        }
        Err(error) => Err(Some(Box::new(Val::Enum(error.name().to_owned())))),
    };
    if let Some(result) = results.first_mut() {
        *result = Val::Result(answer);
    }
    Ok(())
}

fn value(user: &UserDataV2, name: &str, field: Field) -> Val {
    if field == Field::Pairs {
        let text = |text: &String| Val::String(text.clone());
        return Val::List(
            user.additional_fields.iter().map(|(k, v)| Val::Tuple(vec![text(k), text(v)])).collect(),
        );
    }
    let text = match name {
        "tenant-id" => user.tenant_id.as_str(),
        "client-name" | "company-name" => &user.client_name,
        "user-id" => &user.user_id,
        "user-email" => &user.user_email,
        "user-name" => &user.user_name,
        "user-type" => &user.user_type,
        _ => user.client_id.as_deref().unwrap_or_default(),
    };
    let text = (field == Field::Text || !text.is_empty()).then(|| Val::String(text.to_owned()));
    match (field, text) {
        (Field::Text, Some(text)) => text,
        (_, text) => Val::Option(text.map(Box::new)),
    }
}

/// Adds the other names of functions: the same functions, gated, counted and recorded under today's names.
pub(super) fn add_aliases(linker: &mut Linker<RunState>) -> wasmtime::Result<()> {
    let mut instance = linker.instance("alga:extension/logging")?;
    instance.func_wrap_async("info", |mut store, (message,): (String,)| {
        Box::new(async move { logging::Host::log_info(store.data_mut(), message).await })
    })?;
    instance.func_wrap_async("warn", |mut store, (message,): (String,)| {
        Box::new(async move { logging::Host::log_warn(store.data_mut(), message).await })
    })?;
    instance.func_wrap_async("error", |mut store, (message,): (String,)| {
        Box::new(async move { logging::Host::log_error(store.data_mut(), message).await })
    })?;
    linker.instance("alga:extension/secrets")?.func_wrap_async("list", |mut store, (): ()| {
        Box::new(async move { Ok((secrets::Host::list_keys(store.data_mut()).await?,)) })
    })?;
    linker.instance("alga:extension/storage")?.func_wrap_async(
        "list",
        |mut store, (namespace, cursor): (String, Option<String>)| {
            Box::new(
                async move { Ok((storage::Host::list_entries(store.data_mut(), namespace, cursor).await?,)) },
            )
        },
    )?;
    linker.instance("alga:extension/ui-proxy")?.func_wrap_async(
        "call",
        |mut store, (route, payload): (String, Option<Vec<u8>>)| {
            Box::new(
                async move { Ok((ui_proxy::Host::call_route(store.data_mut(), route, payload).await?,)) },
            )
        },
    )?;
    Ok(())
}
