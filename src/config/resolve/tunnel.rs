//! Names on listeners that lead to every route.

use super::context::{Context, seconds};
use crate::config::fault::FaultCollector;
use crate::config::model;
use crate::config::summary::{AcmeSummary, TunnelSummary};
use crate::gateway::{Listener, Tunnel};
use crate::tls::server::{ClientCertificates, ServerSettings, ServerVariants, server_config};
use rustls::pki_types::ServerName;
use toml::Spanned;

impl Context<'_> {
    /// The tunnels of all listeners. Comes after the routes: whose name one would take is known then.
    pub(super) fn tunnels(
        &mut self,
        written: &[Spanned<model::Listener>],
        listeners: &[Listener],
        notes: &mut FaultCollector<'_>,
    ) -> Vec<(Tunnel, TunnelSummary)> {
        let of = |number: usize| listeners.iter().find(|listener| listener.number == number);
        let mut all = Vec::new();
        for (number, one) in written.iter().enumerate() {
            let Some(tunnel) = &one.get_ref().tunnel else { continue };
            let address = of(number).map(|listener| listener.address.to_string()).unwrap_or_default();
            all.extend(self.tunnel(number, &address, tunnel.get_ref(), notes));
        }
        all
    }

    fn tunnel(
        &mut self,
        listener: usize,
        address: &str,
        written: &model::Tunnel,
        notes: &mut FaultCollector<'_>,
    ) -> Option<(Tunnel, TunnelSummary)> {
        let (text, span) = (written.sni.get_ref(), written.sni.span());
        let sni = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if !matches!(ServerName::try_from(sni.as_str()), Ok(ServerName::DnsName(_))) || sni.ends_with('.') {
            notes.fault(span, format!("{text:?} is no DNS name; write \"tunnel.example.com\""));
        } else if let Some(route) =
            self.sni.get(&sni).and_then(|routes| routes.iter().find(|route| self.serves(listener, route)))
        {
            notes.fault(span, format!("{sni} leads to route `{route}`; a tunnel needs a name of its own"));
        }
        let pq = self.pq(&written.pq, notes);
        let chain = written.certificate.span();
        let shown =
            self.shown(&written.certificate, &format!("tunnel:{sni}"), std::slice::from_ref(&sni), notes)?;
        let leaf = shown.leaf;
        let summary = TunnelSummary {
            listener: address.to_owned(),
            sni: sni.clone(),
            certificate_names: shown.names,
            certificate_not_after: shown.not_after.map(seconds),
            acme: shown.acme.as_deref().map(AcmeSummary::of),
        };
        let settings = ServerSettings {
            identity: shown.identity,
            pq: pq?,
            client_certificates: ClientCertificates::None,
            client_ca: Vec::new(),
            client_crl: Vec::new(),
            expired_crl: Default::default(),
        };
        let config = notes.take(chain, server_config(settings).map_err(|fault| fault.to_string()))?;
        Some((Tunnel { listener, sni, server: ServerVariants::new(config, leaf) }, summary))
    }
}
