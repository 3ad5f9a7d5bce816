//! The built-in peers, each run as a process of its own so that its processor time can be told apart.
//!
//! `tls`: TLS on both legs, tokio's bidirectional copy with 64 KiB buffers. `plain`: the same on bare TCP.

use crate::tls::{self, Material};
use std::error::Error;
use std::net::SocketAddr;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const BUFFER: usize = 64 * 1024;

/// Serves until killed. Prints the listening address as its first line of output.
pub(crate) async fn serve(upstream: SocketAddr, material: Option<Material>) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let legs = match &material {
        Some(m) => Some((TlsAcceptor::from(tls::server(m)?), TlsConnector::from(tls::client(m, true)?))),
        None => None,
    };
    loop {
        let (mut near, _) = listener.accept().await?;
        let legs = legs.clone();
        // A connection that fails is seen and counted by the load's own end of it.
        tokio::spawn(async move {
            near.set_nodelay(true)?;
            let mut far = TcpStream::connect(upstream).await?;
            far.set_nodelay(true)?;
            match legs {
                Some((acceptor, connector)) => {
                    let mut near = acceptor.accept(near).await?;
                    let name = rustls::pki_types::ServerName::try_from("localhost")
                        .map_err(std::io::Error::other)?;
                    let mut far = connector.connect(name, far).await?;
                    copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await
                }
                None => copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await,
            }
        });
    }
}
