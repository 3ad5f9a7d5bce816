//! The built-in peers, each run as a process of its own so that its processor time can be told apart.
//!
//! `tls`: TLS on both legs, tokio's bidirectional copy with 64 KiB buffers. `plain`: the same on bare TCP.

use crate::Outcome;
use crate::options::Pq;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CipherSuite, ClientConfig, RootCertStore, ServerConfig};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const BUFFER: usize = 64 * 1024;

/// Serves until killed. Prints the listening address as its first line of output.
pub(crate) async fn serve(upstream: SocketAddr, folder: Option<&Path>, pq: Pq) -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let legs = folder.map(|folder| legs(folder, pq)).transpose()?;
    loop {
        let Ok((mut near, _)) = listener.accept().await else { continue };
        let legs = legs.clone();
        // A connection that fails is seen and counted by the load's own end of it.
        tokio::spawn(async move {
            near.set_nodelay(true)?;
            let mut far = TcpStream::connect(upstream).await?;
            far.set_nodelay(true)?;
            match legs {
                Some((acceptor, connector)) => {
                    let mut near = acceptor.accept(near).await?;
                    let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
                    let mut far = connector.connect(name, far).await?;
                    copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await
                }
                None => copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await,
            }
        });
    }
}

fn legs(folder: &Path, pq: Pq) -> Outcome<(TlsAcceptor, TlsConnector)> {
    let base = staunch::tls::provider(pq.into()).ok_or("this processor cannot compute X25519MLKEM768")?;
    let mut crypto = base.as_ref().clone();
    crypto.cipher_suites.retain(|suite| suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256);
    let crypto = Arc::new(crypto);
    let chain = CertificateDer::pem_file_iter(folder.join("chain.pem"))?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem"))?;
    let server = ServerConfig::builder_with_provider(crypto.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    // Either end may ask for a protocol; the relay carries what it does not understand.
    let mut server = server;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut roots = RootCertStore::empty();
    for der in CertificateDer::pem_file_iter(folder.join("ca.pem"))? {
        roots.add(der?)?;
    }
    let client = ClientConfig::builder_with_provider(crypto)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client))))
}
