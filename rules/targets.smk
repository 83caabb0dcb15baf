# What to type after `snakemake`: a step of the method, or a method. `all` is the default.

for target_name, target in TARGETS.items():

    rule:
        name:
            target_name
        input:
            lambda wildcards, target=target: GRAPH.files(*target.kinds, method=target.method, phase=target.phase),
        localrule: True
        message:
            target.done
