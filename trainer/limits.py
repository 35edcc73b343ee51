"""What every card of a model of FER2013 says about the use of it."""

from typing import Final

LIMITS: Final = [
    "FER2013 is pictures that a search engine of 2013 found for words of emotions: posed, acted and stock "
    "faces of 48x48 grey pixels, cut out by a Haar cascade. Spontaneous faces, small, dark or turned-away "
    "ones, masks and other cameras are hardly in it.",
    "The label fer2013 came from the search word and a quick cleaning by hand; on PublicTest it "
    "agrees with the majority of ten people in 65.4 % of the pictures that have one. The label consensus is "
    "what ten strangers saw in a picture, not what the person felt.",
    "Who is shown was not recorded: age, sex, skin colour and origin are not balanced, and errors by group "
    "were not measured. Children, old people and people of other origins than those whom an English search "
    "finds are likely to be missing.",
    "Disgust has 1.5 % of FER2013's pictures, and fear is often taken for surprise or sadness: the figures "
    "by class say how often. Seven classes are not all that a face can say.",
    "Not for decisions about people: hiring, school, policing, insurance, health, lie detection or the like. "
    "In the European Union emotion recognition at work and in education is forbidden (AI Act, Article 5).",
]
