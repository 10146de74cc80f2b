//! What a handle is that is open when its program ends: told by the kernel side, since nobody can look afterwards.

use crate::{
    kernel::Symbols,
    kinds,
    model::Kind,
    stream::{Described, Fact, FdLookup, What},
};

/// The kernel side's words as a fact.
pub(super) fn described(what: &What, symbols: &Symbols) -> Fact {
    let found = &what.description;
    let kind = kinds::classify(found, symbols.function(found.release));
    let name = match &what.path {
        Some(path) if has_path(kind) => format!("{path}{}", if what.deleted { " (deleted)" } else { "" }),
        _ => kinds::describe(found, kind),
    };
    Fact::Described(Described {
        handle: found.handle,
        generation: found.generation,
        kind,
        name: Some(name.into()),
        descriptor: FdLookup::Found(what.tgid, what.fd),
    })
}

/// Whether a path says more than the kernel's structures do.
const fn has_path(kind: Kind) -> bool {
    !matches!(kind, Kind::Socket | Kind::Anon | Kind::Memfd | Kind::Shm)
}
