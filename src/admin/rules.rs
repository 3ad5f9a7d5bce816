//! The operator's settings in force, and what is made of them. A reload brings others: who may no more is out with the next
//! request.

use super::access::Access;
use super::oidc_login::OidcLogin;
use super::settings::Settings;
use super::token::TokenRules;
use parking_lot::Mutex;
use std::sync::Arc;

/// Who may look and give orders, and how they come.
pub(super) struct Rules {
    pub(super) settings: Arc<Settings>,
    pub(super) tokens: TokenRules,
    pub(super) oidc_login: Option<OidcLogin>,
}

impl Rules {
    fn new(settings: Arc<Settings>) -> Self {
        Rules {
            tokens: TokenRules::new(settings.operate.clone(), settings.view.clone()),
            oidc_login: settings.login.clone().map(OidcLogin::new),
            settings,
        }
    }
}

/// The last rules that were made.
pub(super) struct RulesInForce(Mutex<Arc<Rules>>);

impl RulesInForce {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        RulesInForce(Mutex::new(Arc::new(Rules::new(settings))))
    }

    /// The rules of `settings`, which `access` adopts where they are new.
    pub(super) fn of(&self, settings: Arc<Settings>, access: &Access) -> Arc<Rules> {
        let mut last = self.0.lock();
        if !Arc::ptr_eq(&last.settings, &settings) {
            *last = Arc::new(Rules::new(settings));
            access.adopt(last.settings.key.clone(), !last.tokens.is_empty());
        }
        last.clone()
    }
}
