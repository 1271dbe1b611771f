"""Plain English words, of which prompts are made where they must be text: each one token in most vocabularies."""

WORDS = """
    able about above across after again against air all along also always among and animal another answer any area
    around art away back bank base because become before begin behind best better between big black blue board boat
    body book both bottom box bring brother brown building business call came car care carry case cause center
    century certain chance change check child children church city class clear close cold color come common company
    complete course cover cross cut dark day deep did different door down draw drive dry during each early earth
    east easy eat end enough even every example eye face fact family far farm fast father feel feet few field
    figure final find fine fire first fish five floor follow food foot force form found four free friend from front
    full game garden gave general girl give glass gold good government great green ground group grow half hand happy
    hard head hear heart heat heavy help here high history hold home horse hot hour house however human hundred idea
    important inside interest island job keep kind king knew know land language large last late law lead learn leave
    left letter level life light line list little live local long look low machine made main make many map mark
    market matter mean measure men might mile mind minute money month moon more morning most mother mountain move
    much music must name near need never new next night north note nothing number object ocean off office often old
    once open order other our out over page paper part party past pay people perhaps person picture piece place plan
    plane plant play point poor power present press problem produce product public question quick quite rain reach
    read ready real reason record red rest right river road rock room round rule run same school science sea second
    see seem sentence set several shape ship short show side simple since single six size sleep slow small snow some
    song soon sound south space special spring stand star start state station stay step still stone stop story
    street strong study such summer sun surface system table tail take talk teach ten test than that their them then
    there these they thing think third this those though thought thousand three through time together too top toward
    town trade train travel tree true try turn two type under unit until upon use usual value very voice wait walk
    wall want war warm watch water wave way week weight well went were west what wheel when where which while white
    whole why wide wild will wind winter with without woman wood word work world write year yellow yet young
""".split()  # noqa: SIM905 - four hundred literals read worse
