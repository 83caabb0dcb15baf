# What to type after `snakemake`: a step of the method, or a method. `all` is the default.


localrules:
    all,
    teacher,
    scores,
    selection,
    students,
    evaluation,
    table,
    charts,
    report,
    suponly,
    plain,
    st,
    random,
    stpp,
    pixel,
    supervised,


rule teacher:
    input:
        lambda wildcards: GRAPH.files("train", role="teacher"),
    message:
        "The teachers are there"


rule scores:
    input:
        lambda wildcards: GRAPH.files("score"),
    message:
        "The stability scores are there"


rule selection:
    input:
        lambda wildcards: GRAPH.files("select"),
    message:
        "The lists of reliable and unreliable images are there"


rule students:
    input:
        lambda wildcards: GRAPH.files("train"),
    message:
        "All networks are trained"


rule evaluation:
    input:
        lambda wildcards: GRAPH.files("evaluate"),
    message:
        "All models are evaluated"


rule table:
    input:
        lambda wildcards: GRAPH.files("table"),
    message:
        "The table is there"


rule charts:
    input:
        lambda wildcards: GRAPH.files("chart"),
    message:
        "The charts are there"


rule report:
    input:
        lambda wildcards: GRAPH.files("report"),
    message:
        "The report is there"


rule suponly:
    input:
        lambda wildcards: GRAPH.files(method="suponly"),
    message:
        "All of method suponly is there"


rule plain:
    input:
        lambda wildcards: GRAPH.files(method="plain"),
    message:
        "All of method plain is there"


rule st:
    input:
        lambda wildcards: GRAPH.files(method="st"),
    message:
        "All of method st is there"


rule random:
    input:
        lambda wildcards: GRAPH.files(method="random"),
    message:
        "All of method random is there"


rule stpp:
    input:
        lambda wildcards: GRAPH.files(method="st++"),
    message:
        "All of method st++ is there"


rule pixel:
    input:
        lambda wildcards: GRAPH.files(method="pixel"),
    message:
        "All of method pixel is there"


rule supervised:
    input:
        lambda wildcards: GRAPH.files(method="supervised"),
    message:
        "All of method supervised is there"
