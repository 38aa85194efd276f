//! The declaration macros.

/// Declares a settings struct: fields, variables, defaults and documentation in one place.
///
/// ```
/// use std::num::NonZeroUsize;
/// use longshore_service::config::{ConfigErrors, NatsConfig, Secret, Settings};
///
/// longshore_service::settings! {
///     /// Settings of a worker process.
///     pub struct WorkerConfig, group "Worker", validate check {
///         /// How many executions run at once in this process.
///         pub slots: NonZeroUsize = "8", env "WORKER_SLOTS", aliases ["RUNNER_SLOTS"];
///         /// Key for the registry.
///         pub auth_key: Option<Secret>, env "ALGA_AUTH_KEY", file "ALGA_AUTH_KEY_FILE" = "/vault/secrets/alga_auth_key";
///         /// Where bundles are kept.
///         pub store: String, env "BUNDLE_STORE_BASE";
///         pub nats: NatsConfig;
///     }
/// }
///
/// fn check(config: &WorkerConfig, errors: &mut ConfigErrors) {
///     if config.slots.get() > 1024 {
///         errors.invalid("WORKER_SLOTS", config.slots, "at most 1024");
///     }
/// }
/// # let env = std::collections::BTreeMap::from([("BUNDLE_STORE_BASE".to_owned(), "/b".to_owned())]);
/// # let config = WorkerConfig::load(&env, ["worker", "--worker-slots", "4"].map(str::to_owned)).unwrap();
/// # assert_eq!(config.slots.get(), 4);
/// ```
///
/// A field with `env` is a setting. It has a default (`= "text"`), or is an `Option` or a `Vec` (unset: none, empty), or is required.
/// A field without `env` is another settings struct whose settings are taken over. `validate` is called when all fields of the struct could be read.
/// `Debug` and `Display` print `NAME=value` lines with secrets redacted.
#[macro_export]
macro_rules! settings {
    (
        $(#[doc = $struct_doc:literal])*
        $vis:vis struct $name:ident, group $group:literal $(, validate $check:path)? {
            $(
                $(#[doc = $doc:literal])*
                $field_vis:vis $field:ident : $ty:ty $(= $default:literal)?
                    $(, env $env:literal $(, aliases [$($alias:literal),* $(,)?])? $(, file $file:literal $(= $file_default:literal)?)?)?
                ;
            )*
        }
    ) => {
        $(#[doc = $struct_doc])*
        #[derive(Clone)]
        $vis struct $name {
            $(
                $(#[doc = $doc])*
                $(#[doc = concat!("\n\nVariable `", $env, "`.")])?
                $field_vis $field: $ty,
            )*
        }

        impl $name {
            /// Every setting of this struct itself (not of nested structs), in the order of declaration.
            pub const SETTINGS: &'static [$crate::config::Setting] = $crate::__settings_table!(
                []
                $(($ty) ($($default)?) [$($doc)*] ($($env [$($($alias)*)?] ($($file $(= $file_default)?)?))?);)*
            );

            /// Reads all settings from `strings` and the command line (`args` starts with the program's name); every mistake is in the error.
            pub fn load(
                strings: &dyn $crate::config::Strings,
                args: impl IntoIterator<Item = String>,
            ) -> Result<Self, $crate::config::ConfigErrors> {
                let command = $crate::config::__Command::new(env!("CARGO_PKG_NAME"))
                    .version(env!("CARGO_PKG_VERSION"))
                    .about(concat!($($struct_doc, "\n",)* "").trim());
                $crate::config::load_with_command(command, strings, args).map(|(settings, _)| settings)
            }
        }

        impl $crate::config::Settings for $name {
            fn groups() -> Vec<$crate::config::Group> {
                let mut groups = vec![$crate::config::Group {
                    title: $group,
                    doc: concat!($($struct_doc, "\n",)* ""),
                    settings: Self::SETTINGS,
                }];
                $($crate::__settings_groups!(groups, $ty $(, $env)?);)*
                // A struct of nothing but nested ones has no table of its own.
                groups.retain(|group| !group.settings.is_empty());
                groups
            }

            fn read(
                source: &$crate::config::Source<'_>,
                errors: &mut $crate::config::ConfigErrors,
            ) -> Option<Self> {
                // All fields are read before any is looked at, so that every mistake is found.
                $(let $field = $crate::__settings_read!(source, errors, Self::SETTINGS, $ty $(, $env)?);)*
                let settings = Self { $($field: $field?,)* };
                let before = errors.len();
                $($check(&settings, errors);)?
                (errors.len() == before).then_some(settings)
            }

            fn collect(&self, values: &mut Vec<(&'static str, String)>) {
                $($crate::__settings_values!(values, self.$field, $ty $(, $env)?);)*
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                $crate::config::__write_values(&$crate::config::Settings::values(self), f)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    };
}

/// Declares a closed enum that is read from fixed words.
///
/// ```
/// longshore_service::setting_enum! {
///     /// Where installs come from.
///     pub enum Registry {
///         /// The key-value bucket in NATS.
///         Nats = "nats",
///         /// The platform's HTTP API.
///         Platform = "platform",
///     }
/// }
/// assert_eq!(Registry::Nats.to_string(), "nats");
/// ```
#[macro_export]
macro_rules! setting_enum {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal),+ $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $name { $($(#[$variant_meta])* $variant,)+ }

        impl $name {
            /// The word that means this value.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::config::FromSetting for $name {
            fn expected() -> String {
                ["one of", $(concat!(" `", $word, "`"),)+].concat().replace("` `", "`, `")
            }
            fn parse(raw: &str) -> Option<Self> {
                $crate::config::parse_choice(raw, &[$(($word, Self::$variant),)+])
            }
            fn show(&self) -> String {
                self.as_str().to_owned()
            }
        }
    };
}

// Takes the fields one by one and keeps those that are settings: a repetition cannot leave elements out.
#[doc(hidden)]
#[macro_export]
macro_rules! __settings_table {
    ([$($done:expr,)*]) => { &[$($done,)*] };
    ([$($done:expr,)*] ($ty:ty) () [$($doc:literal)*] (); $($rest:tt)*) => {
        $crate::__settings_table!([$($done,)*] $($rest)*)
    };
    (
        [$($done:expr,)*]
        ($ty:ty) ($($default:literal)?) [$($doc:literal)*] ($env:literal [$($alias:literal)*] ($($file:tt)*));
        $($rest:tt)*
    ) => {
        $crate::__settings_table!([
            $($done,)*
            $crate::config::Setting {
                name: $env,
                aliases: &[$($alias),*],
                file: $crate::__settings_file!($($file)*),
                default: $crate::__settings_option!($($default)?),
                doc: concat!($($doc, "\n",)* ""),
                expected: <$ty as $crate::config::FromSetting>::expected,
                secret: <$ty as $crate::config::FromSetting>::SECRET,
                switch: <$ty as $crate::config::FromSetting>::SWITCH,
                required: !<$ty as $crate::config::FromSetting>::OPTIONAL
                    && $crate::__settings_option!($($default)?).is_none(),
            },
        ] $($rest)*)
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __settings_option {
    () => {
        None::<&'static str>
    };
    ($value:literal) => {
        Some($value)
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __settings_file {
    () => {
        None
    };
    ($name:literal) => {
        Some($crate::config::FileTwin { name: $name, default: None })
    };
    ($name:literal = $default:literal) => {
        Some($crate::config::FileTwin { name: $name, default: Some($default) })
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __settings_groups {
    ($groups:ident, $ty:ty) => {
        $crate::config::__add_groups(&mut $groups, <$ty as $crate::config::Settings>::groups())
    };
    ($groups:ident, $ty:ty, $env:literal) => {};
}

#[doc(hidden)]
#[macro_export]
macro_rules! __settings_read {
    ($source:ident, $errors:ident, $settings:expr, $ty:ty) => {
        <$ty as $crate::config::Settings>::read($source, $errors)
    };
    ($source:ident, $errors:ident, $settings:expr, $ty:ty, $env:literal) => {
        $source.value::<$ty>($settings, $env, $errors)
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __settings_values {
    ($values:ident, $field:expr, $ty:ty) => {
        $crate::config::Settings::collect(&$field, $values)
    };
    ($values:ident, $field:expr, $ty:ty, $env:literal) => {
        $values.push(($env, <$ty as $crate::config::FromSetting>::show(&$field)))
    };
}
