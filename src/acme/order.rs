//! One order at one authority: from the names to a certificate with its key.

use super::account;
use super::challenge::{Answer, Challenges};
use super::client::AcmeClient;
use super::fault::{Fault, explain};
use super::hook::{self, Record};
use super::settings::{Authority, ChallengeKind, Name, Settings};
use super::store::{Lock, Store};
use crate::net::https::HttpsUrl;
use crate::secret::Secret;
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeHandle, ChallengeType, Error, Identifier,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an authority may take to check the challenges, and to sign.
///
/// One that says when it wants to be asked again is waited for until [`MAX_WAIT`].
const POLLING: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(500))
    .backoff(1.5)
    .timeout(Duration::from_secs(180));

/// Longest wait for an authority that names a time: some sign by hand, or in batches.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// Orders that are begun while it is only nonces that are refused.
const ORDERS_FOR_NONCES: u32 = 3;

/// What an order needs besides its names.
pub(super) struct OrderContext<'a> {
    pub(super) settings: &'a Settings,
    pub(super) authority: &'a Authority,
    /// The authority's directory, or the one for trying things out.
    pub(super) directory: &'a HttpsUrl,
    pub(super) challenges: &'a Arc<Challenges>,
    pub(super) state: (&'a Store, &'a Lock),
}

impl OrderContext<'_> {
    /// Orders a certificate. `replaces`: the one that it follows, of the same authority. Gives its key and chain in PEM.
    ///
    /// Nonces that are refused are no failure of the order: authorities of several servers forget theirs in bursts, and the
    /// library gives up after three in a row.
    pub(super) async fn order(
        &self,
        replaces: Option<CertificateIdentifier<'static>>,
    ) -> Result<Secret, Fault> {
        for _ in 1..ORDERS_FOR_NONCES {
            match self.order_once(replaces.clone()).await {
                Err(fault) if fault.is("badNonce") => {}
                done => return done,
            }
        }
        self.order_once(replaces).await
    }

    async fn order_once(&self, replaces: Option<CertificateIdentifier<'static>>) -> Result<Secret, Fault> {
        let client = AcmeClient::new(self.authority.ca.as_deref()).map_err(Fault::own)?;
        let account = account::open(self.authority, self.directory, &client, false, self.state).await?;
        let order = match self.new_order(&account, &client, replaces.clone()).await {
            Err(fault) if fault.is("accountDoesNotExist") => {
                let account =
                    account::open(self.authority, self.directory, &client, true, self.state).await?;
                self.new_order(&account, &client, replaces).await
            }
            // Whatever is wrong with what it replaces, the certificate itself is wanted (RFC 9773 section 5).
            Err(fault) if replaces.is_some() && !fault.is("rateLimited") => {
                self.new_order(&account, &client, None).await
            }
            order => order,
        };
        let order = order.map_err(|fault| match fault.is("unauthorized") {
            true => {
                let account = self.state.0.account_file(&self.directory.text());
                let remedy = format!(
                    "if the account was deactivated there, remove {}: the next order makes another",
                    account.display()
                );
                Fault { text: format!("{} ({remedy})", fault.text), ..fault }
            }
            false => fault,
        })?;
        self.complete_order(order, &client).await
    }

    async fn new_order(
        &self,
        account: &Account,
        client: &AcmeClient,
        replaces: Option<CertificateIdentifier<'static>>,
    ) -> Result<Order, Fault> {
        let identifiers: Vec<Identifier> = self.settings.names.iter().map(identifier).collect();
        let mut wanted = NewOrder::new(&identifiers);
        if let Some(profile) = &self.authority.profile {
            let known: Vec<String> = account.profiles().map(|profile| profile.name.to_owned()).collect();
            if !known.iter().any(|name| name == profile) {
                let known = if known.is_empty() { "none".into() } else { known.join(", ") };
                return Err(Fault::own(format!("this authority has no profile {profile:?}; it has {known}")));
            }
            wanted = wanted.profile(profile);
        }
        if let Some(replaces) = replaces {
            wanted = wanted.replaces(replaces);
        }
        account.new_order(&wanted).await.map_err(|error| explain(error, client))
    }

    async fn complete_order(&self, mut order: Order, client: &AcmeClient) -> Result<Secret, Fault> {
        let to_fault = |error| explain(error, client);
        let mut records = Vec::new();
        let proven = self.prove(&mut order, client, &mut records).await;
        for record in &records {
            if let Err(why) = hook::run(&self.settings.dns_hook, hook::Action::Cleanup, record).await {
                tracing::warn!(name = record.name, error = why, "an ACME record was not removed");
            }
        }
        proven?;
        let key = KeyPair::generate().map_err(Fault::own)?;
        let mut params = CertificateParams::new(self.settings.name_texts()).map_err(Fault::own)?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key).map_err(Fault::own)?;
        order.finalize_csr(request.der()).await.map_err(to_fault)?;
        let give_up = Instant::now() + MAX_WAIT;
        let chain = loop {
            match order.poll_certificate(&POLLING).await {
                Err(error) => wait_as_told(error, give_up).await.map_err(to_fault)?,
                chain => break chain.map_err(to_fault)?,
            }
        };
        Ok(Secret::new([key.serialize_pem().into_bytes(), chain.into_bytes()].concat()))
    }

    /// Proves control of every name. Records that were set stand in `records`, whatever came of it.
    async fn prove(
        &self,
        order: &mut Order,
        client: &AcmeClient,
        records: &mut Vec<Record>,
    ) -> Result<(), Fault> {
        let to_fault = |error| explain(error, client);
        let mut answers = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(to_fault)?;
            match authorization.status {
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => {}
                status => {
                    let name = authorization.identifier().to_string();
                    return Err(Fault::own(format!("the authorization of {name} is {status:?}")));
                }
            }
            let wanted = self.settings.challenge;
            let offered: Vec<String> =
                authorization.challenges.iter().map(|one| format!("{:?}", one.r#type)).collect();
            let name = authorization.identifier().to_string();
            let Some(mut challenge) = authorization.challenge(kind(wanted)) else {
                let (wanted, offered) = (wanted.name(), offered.join(", "));
                return Err(Fault::own(format!(
                    "{name} cannot be proven by {wanted}; offered are {offered}"
                )));
            };
            answers.push(self.answer(&challenge, &name, records).await?);
            challenge.set_ready().await.map_err(to_fault)?;
        }
        let give_up = Instant::now() + MAX_WAIT;
        let ready = loop {
            match order.poll_ready(&POLLING).await {
                Err(error) => match wait_as_told(error, give_up).await {
                    Ok(()) => {}
                    Err(error) => break Err(error),
                },
                ready => break ready,
            }
        };
        drop(answers);
        match ready {
            Ok(OrderStatus::Ready) => Ok(()),
            Ok(_) => Err(self.describe_failures(order, None).await),
            Err(Error::Api(problem)) => {
                let fault = to_fault(Error::Api(problem));
                Err(self.describe_failures(order, Some(fault)).await)
            }
            Err(error) => Err(to_fault(error)),
        }
    }

    /// Sets up the answer to one challenge.
    async fn answer(
        &self,
        challenge: &ChallengeHandle<'_>,
        name: &str,
        records: &mut Vec<Record>,
    ) -> Result<Option<Answer>, Fault> {
        let proof = challenge.key_authorization();
        match self.settings.challenge {
            ChallengeKind::TlsAlpn01 => {
                let name = match name.parse() {
                    Ok(ip) => Name::Ip(ip),
                    Err(_) => Name::Dns(name.to_ascii_lowercase()),
                };
                let digest = proof.digest();
                self.challenges.answer_tls(&name, digest.as_ref()).map(Some).map_err(Fault::own)
            }
            ChallengeKind::Http01 => Ok(Some(self.challenges.answer_http(&challenge.token, proof.as_str()))),
            ChallengeKind::Dns01 => {
                let name = name.strip_prefix("*.").unwrap_or(name);
                let record = Record { name: format!("_acme-challenge.{name}"), value: proof.dns_value() };
                let set = hook::run(&self.settings.dns_hook, hook::Action::Present, &record).await;
                records.push(record);
                set.map(|()| None).map_err(Fault::own)
            }
        }
    }

    /// What the authority says of the challenges that failed.
    async fn describe_failures(&self, order: &mut Order, fault: Option<Fault>) -> Fault {
        let mut texts = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            let name = authorization.identifier().to_string();
            let Ok(state) = authorization.refresh().await else { continue };
            for error in state.challenges.iter().filter_map(|challenge| challenge.error.as_ref()) {
                let kind = error.r#type.as_deref().unwrap_or_default();
                let kind = kind.rsplit(':').next().unwrap_or_default();
                texts.push(format!("{name}: {kind}: {}", error.detail.as_deref().unwrap_or("no details")));
            }
        }
        let retry_after = fault.as_ref().and_then(|fault| fault.retry_after);
        match (texts.is_empty(), fault) {
            (true, Some(fault)) => fault,
            (true, None) => Fault::own("the order was found invalid"),
            (false, _) => Fault { retry_after, ..Fault::own(texts.join("; ")) },
        }
    }
}

/// Waits until the authority wants to be asked again, if that is why polling ended and if it lies before `give_up`.
async fn wait_as_told(error: Error, give_up: Instant) -> Result<(), Error> {
    match error {
        Error::Timeout(Some(at)) if at <= give_up => {
            tokio::time::sleep_until(at.into()).await;
            Ok(())
        }
        error => Err(error),
    }
}

fn identifier(name: &Name) -> Identifier {
    match name {
        Name::Dns(name) => Identifier::Dns(name.clone()),
        Name::Ip(ip) => Identifier::Ip(*ip),
    }
}

fn kind(challenge: ChallengeKind) -> ChallengeType {
    match challenge {
        ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
        ChallengeKind::Http01 => ChallengeType::Http01,
        ChallengeKind::Dns01 => ChallengeType::Dns01,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_authority_that_names_a_time_is_waited_for_and_not_for_ever() {
        let begin = tokio::time::Instant::now();
        let give_up = begin.into_std() + MAX_WAIT;
        let after = |seconds| Error::Timeout(Some(begin.into_std() + Duration::from_secs(seconds)));
        wait_as_told(after(600), give_up).await.unwrap();
        assert!(begin.elapsed() >= Duration::from_secs(600));
        for error in [after(3601), Error::Timeout(None), Error::Str("no order")] {
            wait_as_told(error, give_up).await.unwrap_err();
        }
        assert!(begin.elapsed() < Duration::from_secs(601));
    }
}
