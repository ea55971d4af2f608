//! TCP and TLS.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
};

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Trouble, Whom, plain};

/// A connection from the address that checks come from.
pub(super) async fn tcp(whom: Whom) -> Result<TcpStream, Trouble> {
    let socket = match whom.at {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.map_err(|error| Trouble::of(&error))?;
    if let Some(source) = whom.source {
        // The port is chosen when the peer is known: there are more of them then.
        let late = setsockopt(&socket, IpBindAddressNoPort, &true);
        late.map_err(|error| Trouble::of(&error.into()))?;
        let bound = socket.bind(SocketAddr::new(source, 0));
        bound.map_err(|error| {
            Trouble::Here(format!("cannot send from {source}: {}", plain(&error)))
        })?;
    }
    let stream = socket.connect(whom.at).await;
    let stream = stream.map_err(|error| Trouble::of(&error))?;
    // Short questions: none waits for another.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// The name that a handshake asks for: a virtual host's, else the address.
pub(super) fn name_of(host: Option<&str>, at: IpAddr) -> Result<ServerName<'static>, Trouble> {
    let Some(host) = host else {
        return Ok(ServerName::from(at));
    };
    // A port behind it is not part of the name.
    let bare = host.rsplit_once(':').map_or(host, |(name, port)| {
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        if digits && !name.contains(':') {
            name
        } else {
            host
        }
    });
    let name = ServerName::try_from(bare.to_owned());
    name.map_err(|_| Trouble::Here(format!("{host} is no name for TLS")))
}

/// What TLS needs.
pub(in crate::health) struct Tls {
    /// Takes any certificate.
    any: Arc<ClientConfig>,
    /// Asks for one that the machine trusts; read when it is first wanted.
    trusted: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl Tls {
    /// # Errors
    /// When the library does not have what it is asked for.
    pub(in crate::health) fn new() -> Result<Self, Error> {
        let provider = Arc::new(ring::default_provider());
        let any = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_no_client_auth();
        Ok(Self {
            any: Arc::new(any),
            trusted: OnceLock::new(),
        })
    }

    /// A handshake.
    pub(super) async fn over(
        &self,
        stream: TcpStream,
        name: ServerName<'static>,
        verify: bool,
    ) -> Result<TlsStream<TcpStream>, Trouble> {
        let config = if verify {
            let trusted = self.trusted.get_or_init(trusted);
            trusted.clone().map_err(Trouble::Here)?
        } else {
            self.any.clone()
        };
        let connector = TlsConnector::from(config);
        let done = connector.connect(name, stream).await;
        done.map_err(|error| Trouble::Server(format!("TLS: {}", plain(&error))))
    }
}

/// A configuration that asks for a certificate by one of the machine's authorities.
fn trusted() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(
            "no certificate authorities are installed (package ca-certificates), and verify = true"
                .into(),
        );
    }
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(
        config.with_root_certificates(roots).with_no_client_auth(),
    ))
}

/// Believes every certificate, as ldirectord does: a check asks whether a server
/// lives, at an address that no certificate names. Signatures are still checked.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
