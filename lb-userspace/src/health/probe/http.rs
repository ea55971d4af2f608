//! HTTP and HTTPS.

use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request,
    body::Bytes,
    client::conn::http1,
    header::{CONNECTION, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use regex::bytes::Regex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
};

use super::{MOST, Stage, Tools, Trouble, Whom, beginning, compare, connect};
use crate::model::Http;

pub(super) async fn ask(
    tools: &Tools,
    whom: Whom,
    page: &Http,
    expect: Option<&Regex>,
    stage: &Stage,
) -> Result<(), Trouble> {
    let stream = connect::tcp(whom).await?;
    if page.tls {
        stage.reached(Stage::TLS);
        let name = connect::name_of(page.host.as_deref(), whom.at.ip())?;
        let stream = tools.tls.over(stream, name, page.verify).await?;
        stage.reached(Stage::ANSWER);
        over(stream, whom, page, expect).await
    } else {
        stage.reached(Stage::ANSWER);
        over(stream, whom, page, expect).await
    }
}

async fn over<S>(stream: S, whom: Whom, page: &Http, expect: Option<&Regex>) -> Result<(), Trouble>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(said)?;
    // The connection is driven beside the exchange, and ends with it.
    let mut driven = JoinSet::new();
    driven.spawn(connection);
    let request = request(whom, page)?;
    let mut response = sender.send_request(request).await.map_err(said)?;
    let status = response.status().as_u16();
    let good = page
        .status
        .iter()
        .any(|(first, last)| (*first..=*last).contains(&status));
    if !good {
        let wanted = page.status.first().map_or(200, |(first, _)| *first);
        return Err(Trouble::Server(format!(
            "HTTP {status} instead of {wanted}"
        )));
    }
    // A page that breaks off is none, also when nothing is expected of it.
    let mut body = Vec::new();
    while let Some(frame) = response.frame().await {
        if let Some(data) = frame.map_err(said)?.data_ref() {
            let room = MOST - body.len();
            body.extend_from_slice(&data[..data.len().min(room)]);
            if body.len() == MOST {
                break;
            }
        }
    }
    compare(expect, &body)
}

fn request(whom: Whom, page: &Http) -> Result<Request<Empty<Bytes>>, Trouble> {
    let address = match whom.at.ip() {
        std::net::IpAddr::V6(address) => format!("[{address}]"),
        std::net::IpAddr::V4(address) => address.to_string(),
    };
    let mut host = page.host.clone().unwrap_or_else(|| address.clone());
    let mut target = page.path.clone();
    if let Some((_, rest)) = page.path.split_once("://") {
        // A whole address: its host is asked for, and of a server its path.
        let (named, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        if page.host.is_none() {
            named.clone_into(&mut host);
        }
        if !page.proxy {
            path.clone_into(&mut target);
        }
    } else if page.proxy {
        target = format!("http://{host}{}", page.path);
    }
    Request::builder()
        .method(page.method.as_str())
        .uri(&target)
        .header(HOST, host)
        .header(USER_AGENT, concat!("lvx/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| Trouble::Here(format!("the request cannot be made: {error}")))
}

fn said(error: hyper::Error) -> Trouble {
    if error.is_parse() {
        return Trouble::Server("what it answers is not HTTP".into());
    }
    if error.is_incomplete_message() {
        return Trouble::Server("it closed the connection before its answer was complete".into());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(one) = cause {
        text = one.to_string();
        cause = one.source();
    }
    let text = text.split(" (os error").next().unwrap_or_default();
    Trouble::Server(format!(
        "HTTP: {}",
        beginning(text.as_bytes()).replace('"', "")
    ))
}
