//! The account at an authority: made at the first order, kept, and made again where the authority has forgotten it.

use super::client::AcmeClient;
use super::fault::{Fault, explain};
use super::settings::Authority;
use super::store::{Lock, Store};
use crate::net::https::HttpsUrl;
use instant_acme::{Account, ExternalAccountKey, NewAccount};

/// The account at a directory, made if there is none or if it is not to be trusted any more (`anew`).
pub(super) async fn open(
    authority: &Authority,
    directory: &HttpsUrl,
    client: &AcmeClient,
    anew: bool,
    (store, lock): (&Store, &Lock),
) -> Result<Account, Fault> {
    let url = directory.text();
    let builder = || Account::builder_with_http(Box::new(client.clone()));
    if let Some(credentials) = store.account(&url).map_err(Fault::own)?.filter(|_| !anew) {
        return builder().from_credentials(credentials).await.map_err(|error| explain(error, client));
    }
    let contact: Vec<&str> = authority.contact.iter().map(String::as_str).collect();
    let wanted = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let binding =
        authority.eab.as_ref().map(|eab| ExternalAccountKey::new(eab.key_id.clone(), eab.key.expose()));
    let made = builder().create(&wanted, url.clone(), binding.as_ref()).await;
    let (account, credentials) = made.map_err(|error| {
        let fault = explain(error, client);
        match fault.is("externalAccountRequired") {
            true => Fault {
                text: format!("{} (write eab_key_id and eab_key, as it gave you)", fault.text),
                ..fault
            },
            false => fault,
        }
    })?;
    store.keep_account(&url, &credentials, lock).map_err(Fault::own)?;
    tracing::info!(authority = authority.name, account = account.id(), "ACME account made");
    Ok(account)
}
