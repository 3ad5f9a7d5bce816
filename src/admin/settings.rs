//! The operator's listener as configured.

use crate::identify::oidc::LoginSettings;
use crate::policy::Policy;
use crate::secret::Secret;
use std::path::PathBuf;
use std::sync::Arc;

/// How the operator's listener is set up.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The key that grants access; without one, loopback is trusted.
    pub key: Option<Arc<Secret>>,
    /// Names besides `localhost` and addresses under which the page is reached.
    pub hosts: Vec<String>,
    /// Where revocations are kept over a restart; `None`: they are not.
    pub revocations: Option<PathBuf>,
    /// TLS; `None`: in clear.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Whose tokens let them give orders.
    pub operate: Policy,
    /// Whose tokens let them look.
    pub view: Policy,
    /// Strangers from elsewhere than loopback get the metrics.
    pub is_public: bool,
    /// Every user of this machine may give orders from loopback, where nothing asks who comes.
    pub is_shared_loopback: bool,
    /// Where operators log in by their browser.
    pub login: Option<LoginSettings>,
}
