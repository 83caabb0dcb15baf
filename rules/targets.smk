# What to type after `snakemake`: a step of the method, or a method. `all` is the default.


localrules:
    all,
    teacher,
    scores,
    selection,
    students,
    evaluation,
    table,
    suponly,
    plain,
    st,
    random,
    stpp,


rule teacher:
    input:
        GRAPH.files("train", role="teacher"),
    message:
        "The teachers are there"


rule scores:
    input:
        GRAPH.files("score"),
    message:
        "The stability scores are there"


rule selection:
    input:
        GRAPH.files("select"),
    message:
        "The lists of reliable and unreliable images are there"


rule students:
    input:
        GRAPH.files("train"),
    message:
        "All networks are trained"


rule evaluation:
    input:
        GRAPH.files("evaluate"),
    message:
        "All models are evaluated"


rule table:
    input:
        GRAPH.files("report"),
    message:
        "The table is there"


rule suponly:
    input:
        GRAPH.files(method="suponly"),
    message:
        "All of method suponly is there"


rule plain:
    input:
        GRAPH.files(method="plain"),
    message:
        "All of method plain is there"


rule st:
    input:
        GRAPH.files(method="st"),
    message:
        "All of method st is there"


rule random:
    input:
        GRAPH.files(method="random"),
    message:
        "All of method random is there"


rule stpp:
    input:
        GRAPH.files(method="st++"),
    message:
        "All of method st++ is there"
