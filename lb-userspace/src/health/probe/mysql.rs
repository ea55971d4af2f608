//! MySQL and MariaDB: a login, and a query that gives a row.

use std::net::{Ipv4Addr, SocketAddr};

use mysql_async::{Conn, DriverError, Error, OptsBuilder, Row, prelude::Queryable as _};
use tokio::{io::copy_bidirectional, net::TcpListener, task::JoinSet};

use super::{Stage, Trouble, Whom, connect, plain};
use crate::model::Sql;

pub(super) async fn ask(whom: Whom, sql: &Sql, stage: &Stage) -> Result<(), Trouble> {
    // Ended with the exchange.
    let mut relay = JoinSet::new();
    let at = match whom.source {
        None => whom.at,
        // The library takes no address to come from: it comes through one that has.
        Some(_) => {
            let (at, work) = through(whom).await?;
            relay.spawn(work);
            at
        }
    };
    let given = |text: &String| (!text.is_empty()).then(|| text.clone());
    let options = OptsBuilder::default()
        .ip_or_hostname(at.ip().to_string())
        .tcp_port(at.port())
        .prefer_socket(false)
        .user(given(&sql.login))
        .pass(given(&sql.password))
        .db_name(given(&sql.database));
    stage.reached(Stage::ANSWER);
    let mut connection = Conn::new(options).await.map_err(said)?;
    if !sql.query.is_empty() {
        let row: Option<Row> = connection.query_first(&sql.query).await.map_err(said)?;
        if row.is_none() {
            return Err(Trouble::Server("the query gave no row".into()));
        }
    }
    // Servers write down who goes without a word.
    let _ = connection.disconnect().await;
    Ok(())
}

/// A local address that leads to the server, from the address that checks come from.
async fn through(whom: Whom) -> Result<(SocketAddr, impl Future<Output = ()>), Trouble> {
    let here = |error| Trouble::Here(format!("no local socket: {}", plain(&error)));
    let mut server = connect::tcp(whom).await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.map_err(here)?;
    let at = listener.local_addr().map_err(here)?;
    let work = async move {
        if let Ok((mut client, _)) = listener.accept().await {
            drop(listener);
            // Either end may go first.
            let _ = copy_bidirectional(&mut client, &mut server).await;
        }
    };
    Ok((at, work))
}

fn said(error: Error) -> Trouble {
    match error {
        Error::Io(mysql_async::IoError::Io(error)) => Trouble::of(&error),
        Error::Server(told) => Trouble::Server(format!("MySQL: {}", told.message)),
        Error::Driver(DriverError::ConnectionClosed) => {
            Trouble::Server("it closed the connection".into())
        }
        other => Trouble::Server(format!("MySQL: {other}")),
    }
}
