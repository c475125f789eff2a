// tokio: a task for each connection, on the runtime of one thread.

use std::net::Ipv4Addr;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

async fn echo(mut connection: TcpStream, buffer: usize) -> std::io::Result<()> {
    let mut buffer = vec![0u8; buffer];
    loop {
        let size = connection.read(&mut buffer).await?;
        if size == 0 {
            return Ok(());
        }
        connection.write_all(&buffer[..size]).await?;
    }
}

async fn echo_lines(mut connection: TcpStream) -> std::io::Result<()> {
    let (input, mut output) = connection.split();
    let mut input = BufReader::new(input);
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        output.write_all(&line).await?;
    }
}

async fn echo_datagrams(socket: UdpSocket, sink: bool) -> std::io::Result<()> {
    let mut buffer = vec![0u8; 64 * 1024];
    loop {
        let (size, from) = socket.recv_from(&mut buffer).await?;
        if !sink || buffer[0] == b'?' {
            let _ = socket.send_to(&buffer[..size], from).await;
        }
    }
}

async fn serve(port: u16, buffer: usize, lines: bool, udp: bool, sink: bool) -> std::io::Result<()> {
    let address = (Ipv4Addr::LOCALHOST, port);
    if udp {
        return echo_datagrams(UdpSocket::bind(address).await?, sink).await;
    }
    let listener = TcpListener::bind(address).await?;
    loop {
        let (connection, _) = listener.accept().await?;
        connection.set_nodelay(true)?;
        if lines {
            tokio::spawn(echo_lines(connection));
        } else {
            tokio::spawn(echo(connection, buffer));
        }
    }
}

fn number(text: Option<String>) -> usize {
    text.and_then(|text| text.parse().ok()).expect("a number")
}

fn main() -> std::io::Result<()> {
    let (mut port, mut buffer, mut lines, mut udp, mut sink) = (8007, 4096, false, false, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--port" => port = number(arguments.next()) as u16,
            "--buffer" => buffer = number(arguments.next()),
            "--lines" => lines = true,
            "--udp" => udp = true,
            "--sink" => sink = true,
            other => panic!("no option {}", other),
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(serve(port, buffer, lines, udp, sink))
}
