"""The page's style sheet: readable on a phone, on paper, in the dark; nothing in it names another file."""

from loadtest.report.looks import COLOURS

STYLE = """
*{box-sizing:border-box}
body{margin:0 auto;padding:1rem;max-width:68rem;background:var(--paper);color:var(--ink);
 font:16px/1.5 system-ui,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}
h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.2rem;margin:2rem 0 .5rem}h3{font-size:1rem;margin:1.5rem 0 .25rem}
p{margin:.25rem 0 .75rem;max-width:48rem}.note,figcaption{color:var(--faint);font-size:.875rem}
figure{margin:1rem 0 1.5rem;min-width:0}figcaption strong{color:var(--ink);display:block;font-size:1rem}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:1rem 1.5rem}
.scroll{overflow-x:auto}.wide>svg{min-width:38rem}svg{display:block;width:100%;height:auto}
.single{max-width:32rem}
table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums}
th,td{padding:.2rem 0 .2rem 1.25rem;text-align:right;border-bottom:1px solid var(--rule);vertical-align:top}
th:first-child,td:first-child,.text td,.text th{text-align:left}th:first-child,td:first-child{padding-left:0}
th{font-weight:600}thead th{white-space:nowrap}tbody th{font-weight:400;min-width:11rem}
.text td{overflow-wrap:anywhere}
details{border-top:1px solid var(--rule);margin-top:1.5rem}summary{cursor:pointer;padding:.75rem 0}
summary h2{display:inline}:focus-visible{outline:2px solid var(--blue)}
"""


def style_sheet() -> str:
    """With the colours of plots as variables."""
    light = "".join(f"--{name}:{ink.light};" for name, ink in COLOURS.items())
    dark = "".join(f"--{name}:{ink.dark};" for name, ink in COLOURS.items())
    return (
        f":root{{color-scheme:light dark;{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
        f"@media print{{:root{{color-scheme:light;{light}}}}}{STYLE}"
    )
