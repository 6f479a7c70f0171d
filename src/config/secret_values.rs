//! Secrets as templates see them: each use is noted, and nothing but a use by name shows one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Object, Value};

use crate::config::scope::KnownSecrets;
use crate::secret::{Masker, Secret};

/// What stands for a secret while only its name is known. A digit, so that templates that calculate with
/// a secret (a port, say) can be checked too.
const STAND_IN: &str = "0";

/// The secrets of a run, or their names.
#[derive(Clone, Debug)]
pub struct SecretValues {
    values: Arc<BTreeMap<String, Secret>>,
    names: BTreeSet<String>,
    stand_ins: bool,
}

impl SecretValues {
    /// The secrets as far as they are known.
    pub fn new(known: &KnownSecrets) -> Self {
        match known {
            KnownSecrets::Names(names) => {
                let stand_in = |name: &String| (name.clone(), Secret::new(STAND_IN.to_owned()));
                Self { values: Arc::new(names.iter().map(stand_in).collect()), names: names.clone(), stand_ins: true }
            }
            KnownSecrets::Values(values) => {
                Self { names: values.keys().cloned().collect(), values: Arc::new(values.clone()), stand_ins: false }
            }
        }
    }

    /// Their names.
    pub fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// A mask for messages of the template engine, which may quote what a template made of a secret.
    pub fn masker(&self) -> Masker {
        if self.stand_ins { Masker::default() } else { Masker::new(self.values.values()) }
    }

    /// What a template gets as `secrets`.
    pub fn tracker(&self) -> Arc<Tracker> {
        Arc::new(Tracker { values: Arc::clone(&self.values), used: Mutex::default() })
    }
}

/// `secrets` in a template. It cannot be listed, and says afterwards which secrets were asked for.
pub struct Tracker {
    values: Arc<BTreeMap<String, Secret>>,
    used: Mutex<BTreeSet<String>>,
}

impl Tracker {
    /// The names that were asked for.
    pub fn used(&self) -> BTreeSet<String> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Tracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(crate::secret::MASK)
    }
}

impl Object for Tracker {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let name = key.as_str()?;
        let secret = self.values.get(name)?;
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        Some(Value::from(secret.expose()))
    }
}
