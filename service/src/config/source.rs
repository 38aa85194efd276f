//! Where values come from: flags, variables and their aliases, files.

use std::collections::BTreeMap;
use std::io::Read;

use super::{ConfigError, ConfigErrors, FileTwin, FromSetting, Setting, flag_of};

/// A file that holds a setting's value is a password or a key; a larger one is the wrong file.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// A source of named strings. Tests use a map; nothing but [`Environment::snapshot`] reads the process environment.
pub trait Strings {
    /// The value of `name`, if it is set.
    fn get(&self, name: &str) -> Option<String>;
}

/// The process environment at one moment.
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Copies the environment. Bytes that are not UTF-8 become U+FFFD, so that the value is refused or at least visibly wrong.
    pub fn snapshot() -> Self {
        let pairs = std::env::vars_os();
        Self(
            pairs
                .map(|(name, value)| {
                    (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
                })
                .collect(),
        )
    }
}

impl Strings for Environment {
    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }
}

impl Strings for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        BTreeMap::get(self, name).cloned()
    }
}

impl Strings for std::collections::HashMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        std::collections::HashMap::get(self, name).cloned()
    }
}

/// Flags over variables over files.
pub struct Source<'a> {
    strings: &'a dyn Strings,
    flags: BTreeMap<String, String>,
}

/// A value and the name under which the user gave it.
struct Found {
    name: String,
    raw: String,
}

impl<'a> Source<'a> {
    /// `flags` maps variable names to the values of their flags.
    pub fn new(strings: &'a dyn Strings, flags: BTreeMap<String, String>) -> Self {
        Self { strings, flags }
    }

    /// The value of the setting `name` of `settings`; mistakes go to `errors`.
    pub fn value<T: FromSetting>(
        &self,
        settings: &[Setting],
        name: &'static str,
        errors: &mut ConfigErrors,
    ) -> Option<T> {
        // Always there: the macro makes the table and the call from one declaration.
        let setting = settings.iter().find(|setting| setting.name == name)?;
        let found = match self.find(setting, errors) {
            Ok(found) => found,
            Err(error) => {
                errors.push(error);
                return None;
            }
        };
        let Some(found) = found.or_else(|| {
            setting.default.map(|default| Found { name: name.to_owned(), raw: default.to_owned() })
        }) else {
            return T::absent().or_else(|| {
                let names: Vec<_> = std::iter::once(name)
                    .chain(setting.aliases.iter().copied())
                    .chain(setting.file.map(|f| f.name))
                    .collect();
                errors.push(ConfigError::Missing { name: names.join(" or "), expected: T::expected() });
                None
            });
        };
        T::parse(&found.raw).or_else(|| {
            errors.push(ConfigError::Invalid {
                name: found.name,
                value: T::show_raw(&found.raw),
                expected: T::expected(),
            });
            None
        })
    }

    fn find(&self, setting: &Setting, errors: &mut ConfigErrors) -> Result<Option<Found>, ConfigError> {
        if let Some(found) = self.flag(setting.name) {
            return Ok(Some(found));
        }
        let mut first: Option<Found> = None;
        for name in std::iter::once(&setting.name).chain(setting.aliases) {
            let Some(raw) = self.strings.get(name).filter(|raw| !raw.is_empty()) else { continue };
            match &first {
                None => first = Some(Found { name: (*name).to_owned(), raw }),
                Some(first) if first.raw != raw => errors
                    .push(ConfigError::Conflict { first: first.name.clone(), second: (*name).to_owned() }),
                Some(_) => {}
            }
        }
        match (first, setting.file) {
            (None, Some(file)) => self.read_file(file),
            (found, _) => Ok(found),
        }
    }

    fn flag(&self, name: &str) -> Option<Found> {
        let raw = self.flags.get(name).filter(|raw| !raw.is_empty())?;
        Some(Found { name: format!("--{}", flag_of(name)), raw: raw.clone() })
    }

    fn read_file(&self, twin: FileTwin) -> Result<Option<Found>, ConfigError> {
        let named = self.flag(twin.name).or_else(|| {
            let raw = self.strings.get(twin.name).filter(|raw| !raw.is_empty())?;
            Some(Found { name: twin.name.to_owned(), raw })
        });
        let (name, path, must_exist) = match (named, twin.default) {
            (Some(found), _) => (found.name, found.raw, true),
            (None, Some(default)) => (twin.name.to_owned(), default.to_owned(), false),
            (None, None) => return Ok(None),
        };
        let fail = |cause: String| ConfigError::File { name: name.clone(), path: path.clone(), cause };
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => return Ok(None),
            Err(error) => return Err(fail(error.to_string())),
        };
        let mut raw = String::new();
        file.take(MAX_FILE_BYTES + 1).read_to_string(&mut raw).map_err(|error| fail(error.to_string()))?;
        if raw.len() as u64 > MAX_FILE_BYTES {
            return Err(fail(format!("it is larger than {MAX_FILE_BYTES} bytes")));
        }
        // Editors and `echo` end a file with a newline that is no part of the secret.
        let raw = raw.trim_end_matches(['\r', '\n']).to_owned();
        Ok((!raw.is_empty()).then_some(Found { name, raw }))
    }
}
