//! DNS: a name's addresses, or an address's name.

use std::net::{IpAddr, SocketAddr};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use regex::bytes::Regex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UdpSocket,
};

use super::{Stage, Trouble, Whom, connect, udp};

pub(super) async fn ask(
    whom: Whom,
    name: &str,
    tcp: bool,
    expect: Option<&Regex>,
    stage: &Stage,
) -> Result<(), Trouble> {
    let question = question(name)?;
    let (id, wanted) = (question.metadata.id, question.queries.clone());
    let bytes = question
        .to_vec()
        .map_err(|error| Trouble::Here(format!("the question cannot be made: {error}")))?;
    let answer = if tcp {
        let mut stream = connect::tcp(whom).await?;
        stage.reached(Stage::ANSWER);
        let length = bytes.len() as u16;
        let framed = [&length.to_be_bytes()[..], &bytes].concat();
        let io = |error| Trouble::of(&error);
        stream.write_all(&framed).await.map_err(io)?;
        let length = stream.read_u16().await.map_err(io)?;
        let mut answer = vec![0; length.into()];
        stream.read_exact(&mut answer).await.map_err(io)?;
        parse(&answer)?
    } else {
        stage.reached(Stage::ANSWER);
        let socket = udp::connected(whom).await?;
        over_udp(&socket, whom.at, &bytes, id).await?
    };
    if answer.metadata.id != id || answer.queries != wanted {
        return Err(Trouble::Server("it answers another question".into()));
    }
    if answer.metadata.response_code != ResponseCode::NoError {
        return Err(Trouble::Server(format!(
            "DNS: {} for {name}",
            answer.metadata.response_code
        )));
    }
    judge(&answer, name, expect)
}

fn question(name: &str) -> Result<Message, Trouble> {
    let query = match name.parse::<IpAddr>() {
        Ok(address) => Query::query(address.into(), RecordType::PTR),
        Err(_) => {
            let mut name = Name::from_utf8(name)
                .map_err(|error| Trouble::Here(format!("{name} is no name: {error}")))?;
            name.set_fqdn(true);
            Query::query(name, RecordType::A)
        }
    };
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(query);
    Ok(message)
}

/// The answer to this question; a late one to another is left out.
async fn over_udp(
    socket: &UdpSocket,
    at: SocketAddr,
    question: &[u8],
    id: u16,
) -> Result<Message, Trouble> {
    let sent = socket.send(question).await;
    sent.map_err(|error| udp::said(&error, at))?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await;
        let length = length.map_err(|error| udp::said(&error, at))?;
        let message = parse(&buffer[..length])?;
        if message.metadata.id == id {
            return Ok(message);
        }
    }
}

fn parse(answer: &[u8]) -> Result<Message, Trouble> {
    let message = Message::from_vec(answer);
    message.map_err(|error| Trouble::Server(format!("what it answers is not DNS: {error}")))
}

fn judge(answer: &Message, name: &str, expect: Option<&Regex>) -> Result<(), Trouble> {
    let told: Vec<String> = answer
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(address) => Some(address.to_string()),
            RData::AAAA(address) => Some(address.to_string()),
            RData::PTR(name) => Some(name.to_string().trim_end_matches('.').to_owned()),
            _ => None,
        })
        .collect();
    if told.is_empty() {
        return Err(Trouble::Server(format!("DNS: it knows nothing of {name}")));
    }
    match expect {
        Some(expect) if !told.iter().any(|one| expect.is_match(one.as_bytes())) => {
            let told = told.join(", ");
            Err(Trouble::Server(format!(
                "DNS: none of the answers matches \"{expect}\": {told}"
            )))
        }
        _ => Ok(()),
    }
}
