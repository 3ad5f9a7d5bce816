//! What a leg says and hears about the connection itself: alerts, key updates, session tickets.

use super::{Leg, LegFault, Received};
use crate::tls::outbox::{ControlCause, End};
use crate::tls::record::{Content, RecordFault, Secrets};
use crate::tls::renewal::Renewal;
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;

const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;
const NO_RENEGOTIATION: u8 = 100;
const WARNING: u8 = 1;
const FATAL: u8 = 2;

const HELLO_REQUEST: u8 = 0;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// Key updates without data between them; each costs us a key derivation.
const MAX_UPDATES: u8 = 32;
/// Warning alerts on one leg; they carry nothing.
const MAX_WARNINGS: u8 = 4;
/// Bytes of one post-handshake message; a session ticket needs at most 64 KiB, real ones a few hundred bytes.
const MAX_MESSAGE: usize = 65_536 + 512;

/// What is kept of the handshake after it handed the keys over: for later keys, and as a client for tickets.
pub(in crate::tls) enum Agreed {
    /// As a server. `None` on TLS 1.2, whose keys are not renewed.
    Server(Option<Box<Renewal>>),
    /// As a client: the same, and what takes session tickets.
    Client(Option<Box<Renewal>>, Tickets),
    /// No TLS.
    Nothing,
}

/// What takes the session tickets of an upstream with TLS 1.3.
///
/// rustls keeps its state and the upstream's certificates for it, 1.2 KiB. Upstreams send tickets right after the handshake, so
/// it is given up when nothing more can be read behind some. Any that come later are passed by.
pub(in crate::tls) enum Tickets {
    Awaited(Box<KernelConnection<ClientConnectionData>>),
    Coming(Box<KernelConnection<ClientConnectionData>>),
    Over,
}

impl Agreed {
    /// The secret of the sending key, on a client's leg with TLS 1.3.
    pub(super) fn sending_secret(&self) -> Option<&[u8]> {
        match self {
            Agreed::Server(renewal) => renewal.as_ref().map(|renewal| renewal.tx_secret()),
            Agreed::Client(..) | Agreed::Nothing => None,
        }
    }

    fn renewal(&mut self) -> Option<&mut Renewal> {
        match self {
            Agreed::Server(renewal) | Agreed::Client(renewal, _) => renewal.as_deref_mut(),
            Agreed::Nothing => None,
        }
    }

    /// Gives up what takes tickets if some came: for when there is nothing more to read.
    pub(super) fn forget_tickets(&mut self) {
        if let Agreed::Client(_, tickets @ Tickets::Coming(_)) = self {
            *tickets = Tickets::Over;
        }
    }

    /// Passes the next receiving key to `use_key`.
    fn renew_rx(
        &mut self,
        use_key: impl FnOnce(&Secrets<'_>) -> Result<(), RecordFault>,
    ) -> Result<(), LegFault> {
        let renewed = self.renewal().and_then(Renewal::next_rx).ok_or(NO_UPDATE)?;
        Ok(use_key(&renewed.secrets())?)
    }

    /// Passes the next sending key to `use_key`.
    fn renew_tx(
        &mut self,
        use_key: impl FnOnce(&Secrets<'_>) -> Result<(), RecordFault>,
    ) -> Result<(), LegFault> {
        let renewed = self.renewal().and_then(Renewal::next_tx).ok_or(NO_UPDATE)?;
        Ok(use_key(&renewed.secrets())?)
    }
}

impl Tickets {
    fn take(&mut self, body: &[u8]) {
        *self = match std::mem::replace(self, Tickets::Over) {
            Tickets::Awaited(mut kernel) | Tickets::Coming(mut kernel) => {
                // A ticket that rustls cannot use costs a full handshake next time, nothing else.
                let _ = kernel.handle_new_session_ticket(body);
                Tickets::Coming(kernel)
            }
            Tickets::Over => Tickets::Over,
        }
    }
}

impl Leg {
    fn can_rekey(&self) -> bool {
        self.tx.can_rekey()
    }

    /// RFC 8446 section 6: close_notify and user_canceled are not faults, everything else is; TLS 1.2 has warnings.
    pub(super) fn alert(&mut self, body: &[u8]) -> Result<Received, LegFault> {
        let &[level, description] = body else {
            return Err(LegFault::Malformed("an alert of a wrong length"));
        };
        match (level, description) {
            (_, CLOSE_NOTIFY) => {
                self.rx.closed = true;
                Ok(Received::Closed)
            }
            (WARNING, description) if description == USER_CANCELED || !self.can_rekey() => {
                self.rx.warnings += 1;
                if self.rx.warnings > MAX_WARNINGS {
                    return Err(LegFault::Message("too many warning alerts"));
                }
                Ok(Received::Control)
            }
            (_, description) => Err(LegFault::Alert(description)),
        }
    }

    /// Takes whole messages off the front of what was gathered.
    pub(super) fn messages(&mut self) -> Result<(), LegFault> {
        let mut gathered = std::mem::take(&mut self.rx.message);
        let mut at = 0;
        while let [kind, a, b, c, rest @ ..] = &gathered[at..] {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if length > MAX_MESSAGE {
                return Err(LegFault::Malformed("a handshake message that is too long"));
            }
            let Some(body) = rest.get(..length) else { break };
            let last = rest.len() == length;
            self.message(*kind, body, last)?;
            at += 4 + length;
        }
        gathered.drain(..at);
        if !gathered.is_empty() {
            self.rx.message = gathered;
        }
        Ok(())
    }

    fn message(&mut self, kind: u8, body: &[u8], last: bool) -> Result<(), LegFault> {
        let can_rekey = self.can_rekey();
        match (kind, &mut self.agreed) {
            (KEY_UPDATE, _) if can_rekey => self.key_update(body, last),
            (NEW_SESSION_TICKET, Agreed::Client(_, tickets)) if can_rekey => {
                tickets.take(body);
                Ok(())
            }
            (HELLO_REQUEST, Agreed::Client(..)) if !can_rekey && body.is_empty() => {
                self.tx.queue_control(Content::Alert, &[WARNING, NO_RENEGOTIATION], ControlCause::Reply)
            }
            _ => Err(LegFault::Message("a handshake message that cannot stand here")),
        }
    }

    /// RFC 8446 section 4.6.3. The answer goes out under the old key, which then is renewed.
    fn key_update(&mut self, body: &[u8], last: bool) -> Result<(), LegFault> {
        if !last {
            return Err(LegFault::Message("a key update that does not end its record"));
        }
        self.rx.updates += 1;
        if self.rx.updates > MAX_UPDATES {
            return Err(LegFault::Message("too many key updates without data"));
        }
        let answer = match body {
            [0] => false,
            [1] => true,
            [_] => return Err(LegFault::Illegal("a key update that asks for what does not exist")),
            _ => return Err(LegFault::Malformed("a malformed key update")),
        };
        let opener = self.rx.opener.as_mut().ok_or(NO_UPDATE)?;
        self.agreed.renew_rx(|secrets| opener.rekey(secrets))?;
        if answer && self.tx.end() == End::Open {
            self.renew_key(ControlCause::Reply)?;
        }
        Ok(())
    }

    /// Renews the sending key if its record limit is reached.
    pub fn rekey_if_needed(&mut self) -> Result<(), LegFault> {
        if !self.needs_rekey() {
            return Ok(());
        }
        if !self.can_rekey() {
            return Err(LegFault::KeyLimit);
        }
        self.renew_key(ControlCause::Own)
    }

    fn renew_key(&mut self, occasion: ControlCause) -> Result<(), LegFault> {
        self.tx.queue_control(Content::Handshake, &[KEY_UPDATE, 0, 0, 1, 0], occasion)?;
        let tx = &mut self.tx;
        self.agreed.renew_tx(|secrets| tx.rekey(secrets))?;
        self.renewals += 1;
        Ok(())
    }

    /// Says close_notify, once; nothing can be queued afterwards. Without TLS the FIN says it.
    pub fn queue_close(&mut self) -> Result<(), LegFault> {
        self.tx.queue_end(End::Notified, &[WARNING, CLOSE_NOTIFY])
    }

    /// Says why this leg ends, if there is something to say and it can still be said.
    pub fn queue_alert(&mut self, description: u8) {
        // The leg ends either way; an alert that cannot be sealed changes nothing.
        let _ = self.tx.queue_end(End::Alerted, &[FATAL, description]);
    }
}

const NO_UPDATE: LegFault = LegFault::Message("a key update that the handshake state refuses");
