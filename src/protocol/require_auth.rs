//! `require_auth`: the authentication methods that a server may ask for.

/// The ways in which a server may let the gateway in, as libpq's `require_auth` names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequireAuth {
    methods: Option<Box<[Box<str>]>>,
}

/// What a server does that asks for no proof.
pub const NONE: &str = "none";
/// What PostgreSQL's servers ask for.
pub const POSTGRES_METHODS: [&str; 4] = ["scram-sha-256", "md5", "password", NONE];
/// What MySQL's and MariaDB's servers ask for, by the names of their plug-ins.
pub const MYSQL_METHODS: [&str; 4] =
    ["caching_sha2_password", "mysql_native_password", "client_ed25519", "mysql_clear_password"];

impl RequireAuth {
    /// Reads a list such as `scram-sha-256, md5`; `known` is what the route's protocol has. `Err`: what is wrong with it.
    pub fn parse(text: &str, known: &[&str]) -> Result<Self, String> {
        let methods: Vec<Box<str>> = text.split(',').map(|one| one.trim().into()).collect();
        match methods.iter().find(|method| !known.contains(&&***method)) {
            Some(method) => {
                Err(format!("{method:?} is no method; write one or more of {}", known.join(", ")))
            }
            None => Ok(RequireAuth { methods: Some(methods.into()) }),
        }
    }

    /// True where a server may ask for this. Without a list it may ask for everything, but an account that has a password is
    /// to be asked for it: who wants none may be somebody else.
    pub fn permits(&self, method: &str, has_password: bool) -> bool {
        match &self.methods {
            Some(methods) => methods.iter().any(|permitted| **permitted == *method),
            None => method != NONE || !has_password,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_permits_what_it_names_and_no_list_all_but_nothing_for_a_password() {
        let default = RequireAuth::default();
        assert!(default.permits("md5", true) && default.permits(NONE, false) && !default.permits(NONE, true));
        let scram = RequireAuth::parse("scram-sha-256", &POSTGRES_METHODS).unwrap();
        assert!(scram.permits("scram-sha-256", true) && !scram.permits("md5", true));
        assert!(!scram.permits(NONE, false), "an account without a password is not let off");
        let two = RequireAuth::parse("md5 , none", &POSTGRES_METHODS).unwrap();
        assert!(two.permits("md5", true) && two.permits(NONE, true) && !two.permits("password", true));
        for wrong in ["", "gss", "SCRAM-SHA-256", "md5,"] {
            assert!(RequireAuth::parse(wrong, &POSTGRES_METHODS).is_err(), "{wrong}");
        }
    }
}
