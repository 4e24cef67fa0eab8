//! Fields parted by commas, some in quotes: `a=b,"c=d,e"`.

/// The fields of a line.
pub fn fields(text: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    let mut fresh = true;
    while let Some(c) = chars.next() {
        let Some(field) = fields.last_mut() else { break };
        match c {
            '"' if quoted => {
                if chars.peek() == Some(&'"') {
                    chars.next();
                    field.push('"');
                } else {
                    quoted = false;
                }
            }
            '"' if fresh => quoted = true,
            '"' => return Err("bare \" in non-quoted field".to_owned()),
            ',' if !quoted => {
                fields.push(String::new());
                fresh = true;
                continue;
            }
            c => field.push(c),
        }
        fresh = false;
    }
    if quoted { Err("extraneous or missing \" in quoted-field".to_owned()) } else { Ok(fields) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let check = |text: &str, expect: Result<&str, &str>| {
            let got = fields(text).map(|all| all.join("|"));
            assert_eq!(got.as_deref().map_err(String::as_str), expect, "{text}");
        };
        check("a=b,c", Ok("a=b|c"));
        check("a,\"b=c,d\",e", Ok("a|b=c,d|e"));
        check("\"say \"\"hi\"\"\"", Ok("say \"hi\""));
        check("", Ok(""));
        check("a,", Ok("a|"));
        check("a\"b", Err("bare \" in non-quoted field"));
        check("\"a", Err("extraneous or missing \" in quoted-field"));
    }
}
